from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.table import Table
from tests.unit.workers.adapters.files import base
from workers.adapters.check import Room
from workers.adapters.served import load, model_of, origin, places, rooms
from workers.errors import WrongUsage
from workers.quantization.manifest import Base, Manifest, Requires
from workers.registry.digest import digest_of_artifact


def table(tmp_path: Path, *workers: dict[str, Any], artifact: str = "base") -> Table:
    config = tmp_path / "config"
    config.mkdir()
    versions = {"bf16": {"artifact": artifact}, "elsewhere": {"artifact": "nowhere"}, "hosted": {}}
    written = {
        "ledger": "none",
        "gpus": {"cpu": {"hourly_usd": 1}},
        "models": {"chat": {"context": 64, "versions": versions}},
        "workers": [{"engine": "vllm", "serves": "chat@bf16", "gpu": "cpu", **one} for one in workers],
        "tenants": {"t": {"keys": [{"id": "k", "sha256": "0" * 64}]}},
    }
    (config / "all.yaml").write_text(json.dumps(written))
    return load(config)


LAUNCHED = {"max_loras": 2, "launch": {"port": 8101}}


def test_of_workers_counts_what_their_engine_is_told(tmp_path: Path) -> None:
    found = table(
        tmp_path,
        {"name": "follows", **LAUNCHED},
        {"name": "none", "launch": {"port": 8102}},
        {
            "name": "told",
            "max_loras": 1,
            "launch": {"port": 8103, "args": ["--max-lora-rank", "8", "--max-lora-rank=32"]},
        },
        {"name": "away", "max_loras": 1, "url": "http://10.0.0.1:8000"},
    )

    assert rooms(found, model_of(found, "chat")) == (Room("told", 32), Room("away", None))


def test_checkpoints_that_are_here_are_asked(tmp_path: Path) -> None:
    base(tmp_path / "base")
    found = table(tmp_path, {"name": "w", **LAUNCHED})

    assert [(one.version, one.artifact) for one in places(found, model_of(found, "chat"), tmp_path)] == [
        ("bf16", tmp_path / "base")
    ]


def test_without_a_checkpoint_or_a_model_that_is_said(tmp_path: Path) -> None:
    found = table(tmp_path, {"name": "w", **LAUNCHED})

    with pytest.raises(WrongUsage, match="no checkpoint of chat is here"):
        places(found, model_of(found, "chat"), tmp_path)
    with pytest.raises(WrongUsage, match=r"no model code in .*; there are: chat"):
        model_of(found, "code")
    with pytest.raises(WrongUsage):
        load(tmp_path / "nothing")


def test_a_quantized_checkpoint_comes_from_what_its_manifest_says(tmp_path: Path) -> None:
    original = base(tmp_path / "base")
    quantized = base(tmp_path / "fp8", {"quantization_config": {}})

    assert origin(original) == digest_of_artifact(original)
    assert origin(quantized) is None
    requires = Requires(
        loader="compressed-tensors", compute_capability=7.5, native_capability=8.9, cpu=True, weight_bytes=1
    )
    Manifest(
        recipe="fp8",
        quantization="fp8",
        scheme="FP8_DYNAMIC",
        parameters={},
        base=Base(name="base", digest="sha256:cd"),
        adapter=None,
        calibration=None,
        seed=1,
        threads=2,
        device="cpu",
        libraries={},
        bits_per_weight=8,
        requires=requires,
    ).write(quantized)
    assert origin(quantized) == "sha256:cd"
