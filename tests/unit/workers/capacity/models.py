"""Shapes and checkpoints to plan with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LLAMA_3_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}
SCRIBE: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "head_dim": 64,
    "hidden_size": 256,
    "intermediate_size": 768,
    "max_position_embeddings": 2048,
    "num_attention_heads": 4,
    "num_hidden_layers": 5,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "vocab_size": 2048,
}
DEEPSEEK_V3: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "tie_word_embeddings": False,
    "v_head_dim": 128,
    "vocab_size": 129280,
}
# Small ones of other kinds, which vLLM was started on with random weights.
SMALL: dict[str, Any] = {
    **SCRIBE,
    "num_hidden_layers": 6,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
MISTRAL: dict[str, Any] = {**SMALL, "model_type": "mistral", "sliding_window": 512}
MIXTRAL: dict[str, Any] = {**SMALL, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
GEMMA_3: dict[str, Any] = {
    **SMALL,
    "model_type": "gemma3_text",
    "tie_word_embeddings": True,
    "sliding_window": 512,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
    "rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}},
}
DEEPSEEK_V2: dict[str, Any] = {
    **{key: value for key, value in SMALL.items() if key != "head_dim"},
    "model_type": "deepseek_v2",
    "num_key_value_heads": 4,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 128,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "q_lora_rank": None,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}
QWEN_2: dict[str, Any] = {
    **SMALL,
    "model_type": "qwen2",
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "sliding_window": 512,
}
GEMMA_LIKE: dict[str, Any] = {
    **SCRIBE,
    "num_hidden_layers": 12,
    "max_position_embeddings": 32768,
    "sliding_window": 1024,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 2,
}

Tensors = Mapping[str, tuple[str, Sequence[int]]]
WIDTHS = {"BF16": 2, "F32": 4, "I8": 1, "F8_E4M3": 1, "I32": 4, "I64": 8, "U8": 1}


def safetensors(tensors: Tensors) -> bytes:
    """A file with these tensors, all of them zero."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        elements = 1
        for size in shape:
            elements *= size
        start, end = end, end + elements * WIDTHS[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + bytes(end)


def scribe_tensors(layers: int = 5) -> dict[str, tuple[str, Sequence[int]]]:
    """Those of the demo model, as it is stored."""
    found: dict[str, tuple[str, Sequence[int]]] = {
        "model.embed_tokens.weight": ("BF16", (2048, 256)),
        "model.norm.weight": ("BF16", (256,)),
    }
    for layer in range(layers):
        for name, shape in LAYER.items():
            found[f"model.layers.{layer}.{name}.weight"] = ("BF16", shape)
    return found


LAYER: dict[str, Sequence[int]] = {
    "self_attn.q_proj": (256, 256),
    "self_attn.k_proj": (128, 256),
    "self_attn.v_proj": (128, 256),
    "self_attn.o_proj": (256, 256),
    "mlp.gate_proj": (768, 256),
    "mlp.up_proj": (768, 256),
    "mlp.down_proj": (256, 768),
    "input_layernorm": (256,),
    "post_attention_layernorm": (256,),
}


def quantized_tensors(kind: str) -> dict[str, tuple[str, Sequence[int]]]:
    """The same as llm-compressor writes them: w8a8 with scales per channel, w4a16 packed in groups of 128."""
    found: dict[str, tuple[str, Sequence[int]]] = {}
    for name, (dtype, shape) in scribe_tensors().items():
        if not name.endswith("_proj.weight"):
            found[name] = (dtype, shape)
        elif kind == "w8a8":
            found[name] = ("I8", shape)
            found[f"{name}_scale"] = ("BF16", (shape[0], 1))
        else:
            found[f"{name}_packed"] = ("I32", (shape[0], shape[1] // 8))
            found[f"{name}_scale"] = ("BF16", (shape[0], shape[1] // 128))
            found[f"{name}_shape"] = ("I64", (2,))
    return found


def quantization_config(bits: int, activation_bits: int | None, group: int | None = None) -> dict[str, Any]:
    activations = None if activation_bits is None else {"num_bits": activation_bits, "type": "int"}
    weights = {"num_bits": bits, "type": "int", "group_size": group}
    groups = {"group_0": {"weights": weights, "input_activations": activations, "targets": ["Linear"]}}
    return {"quant_method": "compressed-tensors", "config_groups": groups}


def checkpoint(directory: Path, config: Mapping[str, Any], tensors: Tensors | None = None) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    if tensors is not None:
        (directory / "model.safetensors").write_bytes(safetensors(tensors))
    return directory
