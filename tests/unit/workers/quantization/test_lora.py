from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.workers.quantization.checkpoints import ADAPTED, Shapes, adapter, checkpoint
from workers.errors import WrongUsage
from workers.quantization.lora import read_lora
from workers.quantization.weights import tensors_of

A, B = ADAPTED
OTHER = "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"


def test_an_adapter_that_fits_is_read(tmp_path: Path) -> None:
    base = tensors_of(checkpoint(tmp_path / "base"))

    found = read_lora(adapter(tmp_path / "adapter"), base)

    assert (found.rank, len(found.tensors)) == (4, 2)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({A: (4, 64)}, "4×64 for a layer of 128×128"),
        ({B: (64, 4)}, "64×4 for a layer of 128×128"),
        ({A: (128,)}, "for a layer of"),
        ({OTHER: (4, 128)}, "which the base does not have"),
        ({"base_model.model.lm_head.weight": (4, 4)}, "neither lora_A nor lora_B"),
    ],
)
def test_an_adapter_of_another_base_or_kind_is_refused(tmp_path: Path, shapes: Shapes, message: str) -> None:
    base = tensors_of(checkpoint(tmp_path / "base"))

    with pytest.raises(WrongUsage, match=message):
        read_lora(adapter(tmp_path / "adapter", shapes), base)


@pytest.mark.parametrize("config", [{"peft_type": "IA3"}, {"r": 0}, {"r": "4"}])
def test_what_is_no_lora_is_refused(tmp_path: Path, config: dict[str, object]) -> None:
    with pytest.raises(WrongUsage, match="is not a LoRA adapter's"):
        read_lora(adapter(tmp_path / "adapter", **config), [])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("adapter_config.json", None, "cannot be read"),
        ("adapter_config.json", "{", "is not JSON"),
        ("adapter_config.json", "[]", "is not a PEFT adapter's"),
        ("adapter_model.safetensors", None, "has no adapter_model.safetensors"),
        ("adapter_model.safetensors", "", "cut short"),
    ],
)
def test_a_broken_adapter_is_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    directory = adapter(tmp_path / "adapter")
    (directory / name).unlink()
    if content is not None:
        (directory / name).write_text(content)

    with pytest.raises(WrongUsage, match=message):
        read_lora(directory, [])
