"""What a checkpoint is, by its files."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from workers.errors import WrongUsage
from workers.evaluation.result import Layer
from workers.evaluation.subject import adapted, bits_of, examine, layers_of, quantization_of

FP8 = {
    "config_groups": {"group_0": {"input_activations": {"num_bits": 8}, "weights": {"num_bits": 8, "type": "float"}}}
}
W8A8 = {"config_groups": {"group_0": {"input_activations": {"num_bits": 8}, "weights": {"num_bits": 8, "type": "int"}}}}
W4A16 = {"config_groups": {"group_0": {"input_activations": None, "weights": {"num_bits": 4, "type": "int"}}}}
MIXED = {"config_groups": {"a": W4A16["config_groups"]["group_0"], "b": W8A8["config_groups"]["group_0"]}}


def checkpoint(root: Path, tensors: dict[str, tuple[str, list[int], int]], **config: Any) -> Path:
    root.mkdir(exist_ok=True)
    (root / "config.json").write_text(json.dumps({"max_position_embeddings": 2048} | config))
    header, at = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    (root / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
    return root


@pytest.mark.parametrize(
    ("written", "bits", "name"),
    [
        (FP8, 8, "fp8"),
        (W8A8, 8, "w8a8"),
        (W4A16, 4, "w4a16"),
        (MIXED, 4, "mixed"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4, "nf4"),
        ({"quant_method": "awq", "bits": 4}, 4, "w4a16"),
        ({"quant_method": "gptq", "bits": 8}, 8, "w8a16"),
        ({"quant_method": "fp8"}, 8, "fp8"),
    ],
)
def test_a_quantization_has_bits_and_a_name(written: dict[str, Any], bits: float, name: str) -> None:
    assert bits_of(written) == bits
    assert quantization_of(written, None) == name


def test_a_recipe_can_say_more_than_a_configuration() -> None:
    assert quantization_of(W8A8, "mixed") == "mixed"
    assert quantization_of(None, "mixed") == "none"


def test_bits_per_weight_count_the_scales(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", {"a.weight": ("BF16", [100, 128], 25_600)})
    reference = examine(base)
    assert (reference.bits, reference.subject.bits_per_weight, reference.parameters) == (16.0, 16.0, 12_800)
    tensors = {
        "a.weight_packed": ("I32", [100, 16], 6_400),
        "a.weight_scale": ("BF16", [100, 1], 200),
        "a.weight_shape": ("I64", [2], 16),
    }
    packed = checkpoint(tmp_path / "packed", tensors, quantization_config=W4A16)
    (packed / "manifest.json").write_text('{"recipe": "w4a16-gptq"}')
    found = examine(packed, "tiny@int4")
    assert found.parameters == 12_800
    assert found.subject.bits_per_weight == pytest.approx(8 * 6_616 / 12_800)
    assert (found.subject.name, found.subject.recipe, found.context) == ("tiny@int4", "w4a16-gptq", 2048)
    assert found.subject.digest is not None
    assert found.subject.digest.startswith("sha256:")


def test_layers_are_as_the_recipe_measured_them() -> None:
    told = [{"name": "a", "mean_kld": 0.5, "bits": 8}, {"name": "b", "mean_kld": 0.1, "bits": 4}]
    assert layers_of({"layers": told}) == (
        Layer(name="a", mean_kld=0.5, kept=True),
        Layer(name="b", mean_kld=0.1, kept=False),
    )
    assert layers_of({}) == layers_of({"layers": [{"name": "of another tool"}]}) == ()


def test_an_adapter_is_what_is_judged(tmp_path: Path) -> None:
    base = examine(checkpoint(tmp_path / "base", {"a.weight": ("BF16", [10], 20)})).subject
    adapter = checkpoint(tmp_path / "sql", {"a.lora_A.weight": ("BF16", [2], 4)})
    (adapter / "adapter_config.json").write_text('{"r": 1}')
    found = adapted(base, adapter, None)
    assert (found.name, found.recipe, found.weight_bytes) == ("base:sql", "lora", 24)
    assert found.digest != base.digest
    with pytest.raises(WrongUsage, match=r"no adapter_config\.json"):
        adapted(base, tmp_path / "base", None)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match=r"no config\.json"):
        examine(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WrongUsage, match="JSON"):
        examine(tmp_path)
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 8}')
    with pytest.raises(WrongUsage, match="no weights"):
        examine(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(WrongUsage, match="no safetensors file"):
        examine(tmp_path)
    with pytest.raises(WrongUsage, match="--context"):
        examine(checkpoint(tmp_path / "x", {"a": ("BF16", [1], 2)}, max_position_embeddings=None))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device", "deep", "quantization", "text"])
def test_a_configuration_that_is_none_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "config.json"
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
        case "deep":
            file.write_bytes(b"[" * 50_000)
        case "quantization":
            file.write_text('{"quantization_config": "fp8"}')
        case _:
            checkpoint(tmp_path, {"a": ("BF16", [2], 4)}, text_config=[1])
    with pytest.raises(WrongUsage, match=r"config\.json"):
        examine(tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "header", [b"[1]", b"null", b'{"a": "x"}', b'{"a": {"dtype": "BF16", "shape": [1]}}', b"[" * 50_000]
)
def test_weights_with_a_header_that_is_none_are_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 64}')
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WrongUsage, match="broken header"):
        examine(tmp_path)
