from __future__ import annotations

from pathlib import Path

from tests.unit.workers.quantization.test_manifest import MADE
from workers.evaluation.layers import layers_of
from workers.evaluation.result import Layer as Shown
from workers.quantization.manifest import Layer


def test_layers_are_those_of_the_manifest_and_kept_at_sixteen_bits(tmp_path: Path) -> None:
    layers = (
        Layer(name="layers.0.mlp.down_proj", weights=("a",), mean_kld=0.5, mean_kld_8bit=0.1, bits=16),
        Layer(name="layers.1.mlp.down_proj", weights=("b",), mean_kld=0.25, mean_kld_8bit=0.1, bits=4),
    )
    MADE.model_copy(update={"layers": layers}).write(tmp_path)

    assert layers_of(tmp_path) == (
        Shown(name="layers.0.mlp.down_proj", mean_kld=0.5, kept=True, bits=16),
        Shown(name="layers.1.mlp.down_proj", mean_kld=0.25, kept=False, bits=4),
    )


def test_an_artifact_without_a_manifest_has_none(tmp_path: Path) -> None:
    assert layers_of(tmp_path) == ()
