"""LoRA adapters as PEFT saves them, of a few bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj"],
}
PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"


def head(rank: int = 4, width: int = 2) -> dict[str, Any]:
    """Of one layer's two matrices, in F32."""
    size = rank * width * 4
    return {
        f"{PREFIX}.lora_A.weight": {"dtype": "F32", "shape": [rank, width], "data_offsets": [0, size]},
        f"{PREFIX}.lora_B.weight": {"dtype": "F32", "shape": [width, rank], "data_offsets": [size, 2 * size]},
    }


def safetensors(tensors: object, data: bytes) -> bytes:
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text + data


def write_adapter(path: Path, fill: bytes = b"\0", **config: Any) -> Path:
    """A whole adapter; `config` replaces keys of its configuration."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    (path / "adapter_model.safetensors").write_bytes(safetensors(head(), fill * 64))
    return path
