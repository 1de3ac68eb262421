from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.workers.capacity.models import (
    LLAMA_3_8B,
    SCRIBE,
    checkpoint,
    quantization_config,
    quantized_tensors,
    safetensors,
    scribe_tensors,
)
from workers.capacity.checkpoint import INDEX, read_model
from workers.capacity.weights import weights_bytes
from workers.errors import WrongUsage
from workers.weight_files import read_header

# What vLLM 0.32 counted after loading these checkpoints.
ENGINE_BYTES = {"none": 9_180_752, "w8a8": 5_299_882, "w4a16": 3_344_362}


def test_headers_and_configuration_say_the_same(tmp_path: Path) -> None:
    exact = read_model(checkpoint(tmp_path / "a", SCRIBE, scribe_tensors()))
    shaped = read_model(checkpoint(tmp_path / "b", SCRIBE) / "config.json")
    assert exact.parameters == shaped.parameters == 4_459_264
    for quantization in ("none", "fp8", "w8a8", "mixed", "w4a16", "nf4"):
        for split in (1, 2, 4):
            assert weights_bytes(exact, quantization, split) == weights_bytes(shaped, quantization, split)


@pytest.mark.parametrize("quantization", ENGINE_BYTES)
def test_what_will_be_held_is_known_before_it_is_quantized(quantization: str, tmp_path: Path) -> None:
    planned = weights_bytes(read_model(checkpoint(tmp_path, SCRIBE, scribe_tensors())), quantization)
    assert planned == pytest.approx(ENGINE_BYTES[quantization], rel=0.001)


@pytest.mark.parametrize(
    ("quantization", "config"),
    [("w8a8", quantization_config(8, 8)), ("w4a16", quantization_config(4, None, 128))],
)
def test_a_quantized_checkpoint_is_taken_as_it_is(quantization: str, config: dict[str, object], tmp_path: Path) -> None:
    written = {**SCRIBE, "quantization_config": config}
    model = read_model(checkpoint(tmp_path, written, quantized_tensors(quantization)))
    assert model.stored == quantization
    assert model.parameters == 4_459_264
    assert weights_bytes(model, quantization) == pytest.approx(ENGINE_BYTES[quantization], rel=0.001)


def test_shards_are_those_of_the_index(tmp_path: Path) -> None:
    tensors = scribe_tensors()
    checkpoint(tmp_path, SCRIBE)
    first = {name: tensors[name] for name in list(tensors)[:20]}
    names = {name: f"model-0000{1 if name in first else 2}-of-00002.safetensors" for name in tensors}
    for shard in set(names.values()):
        held = {name: tensor for name, tensor in tensors.items() if names[name] == shard}
        (tmp_path / shard).write_bytes(safetensors(held))
    (tmp_path / "consolidated.safetensors").write_bytes(safetensors(tensors))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
    assert read_model(tmp_path).parameters == 4_459_264
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WrongUsage, match="model-00002"):
        read_model(tmp_path)


def test_what_the_engine_does_not_load_is_not_counted(tmp_path: Path) -> None:
    more = {
        "lm_head.weight": ("BF16", (2048, 256)),  # tied
        "model.layers.5.mlp.up_proj.weight": ("BF16", (768, 256)),  # one layer too many: multi-token prediction
        "model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", (32,)),
    }
    assert read_model(checkpoint(tmp_path, SCRIBE, {**scribe_tensors(), **more})).parameters == 4_459_264


def test_stacked_experts(tmp_path: Path) -> None:
    config = {**SCRIBE, "num_local_experts": 4, "num_experts_per_tok": 2}
    tensors = {name: tensor for name, tensor in scribe_tensors().items() if ".mlp." not in name}
    for layer in range(5):
        tensors[f"model.layers.{layer}.mlp.experts.gate_up_proj"] = ("BF16", (4, 256, 1536))
        tensors[f"model.layers.{layer}.mlp.experts.down_proj"] = ("BF16", (4, 768, 256))
        tensors[f"model.layers.{layer}.mlp.gate.weight"] = ("BF16", (4, 256))
    exact = read_model(checkpoint(tmp_path, config, tensors))
    shaped = read_model(checkpoint(tmp_path / "shape", config))
    assert (exact.parameters, exact.active_parameters) == (shaped.parameters, shaped.active_parameters)


def test_another_models_configuration_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="another model's configuration"):
        read_model(checkpoint(tmp_path, LLAMA_3_8B, scribe_tensors()))


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(WrongUsage, match="LoRA adapter"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "only a pointer"),
        (b"\x02\0\0\0\0\0\0\0{]", "broken header"),
        (b"\x02\0\0\0\0\0\0\0[]", "broken header"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff{}", "no safetensors file"),
        (safetensors(scribe_tensors())[:-1], "download or copy it again"),
        (safetensors({}), "hold no weights"),
    ],
)
def test_damaged_weights_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    checkpoint(tmp_path, SCRIBE)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WrongUsage, match=said):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "not JSON"), ("{", "not JSON"), ("[]", "not a mapping"), ("{}", "no `"), ("[" * 100_000, "not JSON")],
)
def test_damaged_configurations_are_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(WrongUsage, match=said):
        read_model(tmp_path)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="is no file"):
        read_model(Path("/dev/zero"))
    checkpoint(tmp_path, SCRIBE)
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(WrongUsage, match="no regular file"):
        read_model(tmp_path)


def test_a_quantization_of_unknown_size_needs_the_weights(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="mxfp4"):
        read_model(checkpoint(tmp_path, {**SCRIBE, "quantization_config": {"quant_method": "mxfp4"}}))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(0, 3000), at=st.integers(0, 3000), byte=st.integers(0, 255))
def test_any_damage_of_the_header_is_refused_or_harmless(cut: int, at: int, byte: int, tmp_path: Path) -> None:
    whole = bytearray(safetensors({name: scribe_tensors()[name] for name in list(scribe_tensors())[:4]}))
    whole[at % len(whole)] = byte
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole[: len(whole) - cut])
    try:
        assert all(tensor.bytes >= 0 for tensor in read_header(path))
    except WrongUsage:
        pass
