from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.unit.workers.adapters.files import HIDDEN, LINEARS, base
from workers.adapters.base import Linear, chosen_targets, read_base
from workers.errors import WrongUsage


def test_linear_layers_are_told_from_everything_else(tmp_path: Path) -> None:
    found = read_base(base(tmp_path / "base"))

    assert found.linears == {name: Linear(*shape) for name, shape in LINEARS.items()}
    assert found.suffixes == {"q_proj", "up_proj", "down_proj"}
    assert (found.context, found.is_quantized, found.opaque) == (64, False, False)


def test_packed_weights_have_the_shape_that_is_kept_with_them(tmp_path: Path) -> None:
    weights = {
        "m.q_proj.weight_packed": ("I32", (HIDDEN, 2), None),
        "m.q_proj.weight_shape": ("I64", (2,), struct.pack("<2q", HIDDEN, 16)),
        "m.q_proj.weight_scale": ("BF16", (HIDDEN,), None),
    }

    found = read_base(base(tmp_path / "base", {"quantization_config": {}}, weights))

    assert (found.linears, found.is_quantized, found.opaque) == ({"m.q_proj": Linear(HIDDEN, 16)}, True, False)


def test_a_layout_that_is_not_known_is_told(tmp_path: Path) -> None:
    assert read_base(base(tmp_path / "base", weights={"m.q_proj.qweight": ("I32", (2, 8), None)})).opaque


@pytest.mark.parametrize(
    ("asked", "chosen"), [(None, ("down_proj", "q_proj", "up_proj")), (["up_proj", "q_proj"], ("q_proj", "up_proj"))]
)
def test_all_linear_layers_are_adapted_or_those_asked_for(
    tmp_path: Path, asked: list[str] | None, chosen: tuple[str, ...]
) -> None:
    assert chosen_targets(read_base(base(tmp_path / "base")), asked) == chosen


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["k_proj"], "no such linear layer; choose from down_proj, q_proj, up_proj"),
        (["lm_head"], "do not adapt embeddings"),
        ([""], "no such linear layer"),
    ],
)
def test_targets_that_the_base_has_not_are_refused(tmp_path: Path, asked: list[str], message: str) -> None:
    with pytest.raises(WrongUsage, match=message):
        chosen_targets(read_base(base(tmp_path / "base")), asked)


def test_a_quantized_base_is_not_trained_on(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="train on the checkpoint it was made from"):
        chosen_targets(read_base(base(tmp_path / "base", {"quantization_config": {}})), None)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="no such checkpoint"):
        read_base(tmp_path / "nothing")
    with pytest.raises(WrongUsage, match=r"no config\.json"):
        read_base(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WrongUsage, match="no weights"):
        read_base(tmp_path)
