"""Small checkpoints and adapters on disk, with any flaw that is asked for."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.adapters.manifest import Data, Losses, Manifest
from workers.registry.digest import digest_of_artifact

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I64": 8, "I32": 4}
HIDDEN, INNER, RANK = 8, 16, 4
LINEARS = {
    "model.layers.0.self_attn.q_proj": (HIDDEN, HIDDEN),
    "model.layers.0.mlp.up_proj": (INNER, HIDDEN),
    "model.layers.0.mlp.down_proj": (HIDDEN, INNER),
}
Written = Mapping[str, tuple[str, tuple[int, ...], bytes | None]]  # type, shape, content; None: small numbers


def safetensors(path: Path, tensors: Written) -> None:
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, (dtype, shape, content) in tensors.items():
        size = math.prod(shape) * SIZES[dtype]
        data = b"\x01" * size if content is None else content
        head[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + size]}
        body += data
    written = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + body)


def base(directory: Path, config: Mapping[str, Any] | None = None, weights: Written | None = None) -> Path:
    directory.mkdir()
    full = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64, "dtype": "bfloat16"}
    (directory / "config.json").write_text(json.dumps(full | dict(config or {})))
    (directory / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": []}))
    linears = {f"{name}.weight": ("BF16", shape, None) for name, shape in LINEARS.items()}
    others = {
        "model.embed_tokens.weight": ("BF16", (20, HIDDEN), None),
        "model.norm.weight": ("BF16", (HIDDEN,), None),
        "lm_head.weight": ("BF16", (20, HIDDEN), None),
    }
    safetensors(directory / "model.safetensors", {**others, **linears} if weights is None else weights)
    return directory


def loras(rank: int = RANK, dtype: str = "BF16") -> dict[str, tuple[str, tuple[int, ...], bytes | None]]:
    found: dict[str, tuple[str, tuple[int, ...], bytes | None]] = {}
    for name, (outputs, inputs) in LINEARS.items():
        found[f"base_model.model.{name}.lora_A.weight"] = (dtype, (rank, inputs), None)
        found[f"base_model.model.{name}.lora_B.weight"] = (dtype, (outputs, rank), None)
    return found


def adapter(directory: Path, on: Path | None = None, weights: Written | None = None, **config: Any) -> Path:
    """With a manifest where the base it was trained on is given."""
    directory.mkdir()
    targets = ["q_proj", "up_proj", "down_proj"]
    full = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": targets, "bias": "none"}
    (directory / "adapter_config.json").write_text(json.dumps(full | config))
    safetensors(directory / "adapter_model.safetensors", loras() if weights is None else weights)
    if on is not None:
        manifest(on).write(directory)
    return directory


def manifest(on: Path, before: float = 2.0, after: float = 1.0) -> Manifest:
    data = Data(file="a.jsonl", sha256="0" * 64, examples=9, learnt_tokens=90, cut=0, skipped=0)
    return Manifest(
        base=on.name,
        base_digest=digest_of_artifact(on),
        rank=RANK,
        alpha=2 * RANK,
        targets=("down_proj", "q_proj", "up_proj"),
        training=data,
        held_out=data,
        steps=3,
        batch_size=4,
        learning_rate=0.001,
        window=64,
        seed=1,
        threads=2,
        device="cpu",
        dtype="bfloat16",
        parameters=100,
        losses=Losses(held_out_before=before, held_out_after=after),
        libraries={"peft": "1"},
    )
