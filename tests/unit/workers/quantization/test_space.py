from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.workers.quantization.checkpoints import checkpoint
from workers.errors import WrongUsage
from workers.quantization.recipes import RECIPES
from workers.quantization.space import artifact_bytes, bits_per_linear_weight, check_space
from workers.quantization.weights import tensors_of

LINEAR = 128 * 128 + 128 * 256
OTHERS = 2 * (16 * 128 + 128)


@pytest.mark.parametrize(
    ("recipe", "bits"), [("fp8", 8.05), ("w4a16-gptq", 4.125), ("w4a16-awq", 4.125), ("mixed", 5.5), ("nf4", 4.135)]
)
def test_an_artifact_takes_its_bits_and_what_is_not_quantized(tmp_path: Path, recipe: str, bits: float) -> None:
    tensors = tensors_of(checkpoint(tmp_path / "base"))

    assert bits_per_linear_weight(RECIPES[recipe], budget=5.5) == pytest.approx(bits)
    assert artifact_bytes(tensors, bits) == round(LINEAR * bits / 8) + OTHERS


def test_what_the_disk_has_no_room_for_is_not_begun(tmp_path: Path) -> None:
    check_space(tmp_path / "new" / "out", 1)
    with pytest.raises(WrongUsage, match="make room"):
        check_space(tmp_path / "new" / "out", 10**18)
    assert not (tmp_path / "new").exists()
