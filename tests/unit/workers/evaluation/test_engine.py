"""What an engine's log and a checkpoint's headers tell of its start."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from workers.evaluation.engine import CannotServe, Startup, serving, startup, tensor_bytes

GPU_LOG = """
INFO [gpu_model_runner.py:5150] Model loading took 14.99 GiB memory and 3.2 seconds
INFO [kv_cache_utils.py:2327] GPU KV cache size: 419,328 tokens, Maximum concurrency for 2,048 tokens per request: 204x
"""


def write_tensors(path: Path, sizes: dict[str, int]) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, size in sizes.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


def test_a_gpu_worker_says_both(tmp_path: Path) -> None:
    assert startup(GPU_LOG, tmp_path) == Startup(weight_bytes=round(14.99 * 2**30), kv_tokens=419_328)


def test_a_cpu_worker_is_silent_about_its_weights(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model-1.safetensors", {"a": 100, "b": 28})
    write_tensors(tmp_path / "model-2.safetensors", {"c": 1000})
    said = "INFO [kv_cache_utils.py:2327] CPU KV cache size: 512 tokens, Maximum concurrency …"
    assert startup(said, tmp_path) == Startup(weight_bytes=1128, kv_tokens=512)
    assert tensor_bytes(tmp_path / "not there") == 0


def test_an_adapter_without_configuration_is_refused_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.touch(0o755)
    monkeypatch.setenv("TOLLGATE_ENGINE_PYTHON", str(python))
    with (
        pytest.raises(CannotServe, match=r"adapter_config\.json"),
        serving("m", name="m", log=tmp_path / "log", context=64, lora={"a": tmp_path / "none"}),
    ):
        pass
