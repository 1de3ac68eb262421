from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.workers.quantization.checkpoints import checkpoint, safetensors
from tests.unit.workers.quantization.test_manifest import MADE
from workers.demo.broken import break_artifact, is_current
from workers.errors import WrongUsage
from workers.quantization.manifest import read_manifest
from workers.weight_files import read_header

SCALE, PACKED = (f"model.layers.0.mlp.down_proj.{part}" for part in ("weight_scale", "weight_packed"))
SHAPES = {SCALE: (3, 2), PACKED: (3, 2)}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    directory = checkpoint(tmp_path / "int4", SHAPES)
    whole = safetensors(SHAPES)
    data = bytes(range(0x10, 0x28))
    (directory / "model.safetensors").write_bytes(whole[: -len(data)] + data)
    MADE.model_copy(update={"recipe": "w4a16-gptq", "quantization": "w4a16"}).write(directory)
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    whole = (directory / "model.safetensors").read_bytes()
    return {tensor.name: whole[tensor.start : tensor.end] for tensor in read_header(directory / "model.safetensors")}


def test_the_weights_of_each_byte_are_swapped_and_nothing_else(artifact: Path, tmp_path: Path) -> None:
    break_artifact(artifact, tmp_path / "broken")

    before, after = contents(artifact), contents(tmp_path / "broken")
    assert after[SCALE] == before[SCALE]
    assert before[PACKED] == bytes.fromhex("1c1d1e1f2021222324252627")
    assert after[PACKED] == bytes.fromhex("c1d1e1f10212223242526272")


def test_it_says_what_it_is_and_is_made_once(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "broken"
    assert not is_current(artifact, out)

    break_artifact(artifact, out)

    assert read_manifest(out).recipe == "broken"
    assert is_current(artifact, out)
    MADE.model_copy(update={"seed": 9}).write(artifact)
    assert not is_current(artifact, out)


def test_only_a_four_bit_version_can_be_broken(artifact: Path, tmp_path: Path) -> None:
    MADE.write(artifact)

    with pytest.raises(WrongUsage, match="not a 4-bit version"):
        break_artifact(artifact, tmp_path / "broken")


def test_something_else_is_not_overwritten(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="exists"):
        break_artifact(artifact, checkpoint(tmp_path / "mine"))
