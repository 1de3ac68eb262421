"""Small checkpoints for tests: real safetensors files, written without the library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from workers.weight_files import BITS

CONFIG: Mapping[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 128,
    "max_position_embeddings": 1024,
}
Shapes = Mapping[str, tuple[int, ...]]
SHAPES: Shapes = {
    "model.embed_tokens.weight": (16, 128),
    "model.layers.0.self_attn.q_proj.weight": (128, 128),
    "model.layers.0.mlp.down_proj.weight": (128, 256),
    "model.norm.weight": (128,),
}
ADAPTED: Shapes = {
    "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": (4, 128),
    "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": (128, 4),
}


def safetensors(shapes: Shapes, dtype: str = "BF16") -> bytes:
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        start = end
        count = 1
        for size in shape:
            count *= size
        end += count * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + bytes(end)


def checkpoint(directory: Path, shapes: Shapes = SHAPES, **config: object) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (directory / "tokenizer.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(safetensors(shapes))
    return directory


def adapter(directory: Path, shapes: Shapes = ADAPTED, **config: object) -> Path:
    directory.mkdir(parents=True)
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, **config}))
    (directory / "adapter_model.safetensors").write_bytes(safetensors(shapes))
    return directory
