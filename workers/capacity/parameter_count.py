"""A model known by its size alone: `7B`, `8x7B`, `70B,layers=80,kv_heads=8`. Its shape is taken from a public model of
about that size, and its linear layers are scaled until the count is exact.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from workers.capacity.architecture import Model
from workers.capacity.configuration import from_config
from workers.errors import WrongUsage

_COUNT = re.compile(r"(?:([0-9]{1,4})x)?([0-9]{1,6}(?:\.[0-9]{1,6})?)([MBT])", re.IGNORECASE)
_UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}

KEYS = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "intermediate": "intermediate_size",
    "vocab": "vocab_size",
    "context": "max_position_embeddings",
    "experts": "num_local_experts",
    "experts_per_token": "num_experts_per_tok",
}
NEEDED = ("layers", "hidden", "heads", "intermediate", "vocab")  # for a shape to be a model's own


def _shape(
    layers: int, hidden: int, heads: int, kv_heads: int, intermediate: int, vocab: int, **more: object
) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        "vocab_size": vocab,
        "tie_word_embeddings": False,
        **more,
    }


# From the config.json of each model; in billions of parameters. GPT-3: arXiv 2005.14165, table 2.1.
SHAPES: dict[float, tuple[str, dict[str, Any]]] = {
    0.494: ("Qwen2.5-0.5B", _shape(24, 896, 14, 2, 4864, 151936, tie_word_embeddings=True)),
    1.24: ("Llama-3.2-1B", _shape(16, 2048, 32, 8, 8192, 128256, tie_word_embeddings=True)),
    3.21: ("Llama-3.2-3B", _shape(28, 3072, 24, 8, 8192, 128256, tie_word_embeddings=True)),
    6.74: ("Llama-2-7B", _shape(32, 4096, 32, 32, 11008, 32000)),
    8.03: ("Llama-3-8B", _shape(32, 4096, 32, 8, 14336, 128256)),
    13.0: ("Llama-2-13B", _shape(40, 5120, 40, 40, 13824, 32000)),
    14.8: ("Qwen2.5-14B", _shape(48, 5120, 40, 8, 13824, 152064)),
    32.8: ("Qwen2.5-32B", _shape(64, 5120, 40, 8, 27648, 152064)),
    70.6: ("Llama-3-70B", _shape(80, 8192, 64, 8, 28672, 128256)),
    175.0: ("GPT-3", _shape(96, 12288, 96, 96, 49152, 50257, tie_word_embeddings=True, model_type="gpt2")),
    406.0: ("Llama-3.1-405B", _shape(126, 16384, 128, 8, 53248, 128256)),
}
EXPERTS: dict[float, tuple[str, dict[str, Any]]] = {
    7.0: ("Mixtral-8x7B", _shape(32, 4096, 32, 8, 14336, 32000)),
    22.0: ("Mixtral-8x22B", _shape(56, 6144, 48, 8, 16384, 32768)),
}


def is_count(text: str) -> bool:
    return _COUNT.fullmatch(text.split(",", 1)[0].strip()) is not None


def from_count(text: str) -> Model:
    """The model that a count and what is known of its shape describe. Raises WrongUsage."""
    first, *rest = (part.strip() for part in text.split(","))
    match = _COUNT.fullmatch(first)
    if match is None:
        raise WrongUsage(f"`{first}` is not a parameter count; write for example 7B, 350M, 8x7B")
    experts, billions = int(match[1] or 0), float(match[2]) * _UNITS[match[3].upper()] / 1e9
    if not 0 < billions <= 1e5 or (match[1] and experts < 2):
        raise WrongUsage(f"`{first}` is no size that a model has; write for example 7B, 350M, 8x7B")
    shapes = EXPERTS if experts else SHAPES
    nearest = min(shapes, key=lambda size: abs(math.log(size / billions)))
    like, shape = shapes[nearest]
    config = dict(shape)
    if experts:
        config |= {"num_local_experts": experts, "num_experts_per_tok": min(2, experts)}
    given = _given(rest)
    if ("hidden" in given or "heads" in given) and "head_dim" not in given:
        config.pop("head_dim", None)
    if "heads" in given and "kv_heads" not in given:
        config["num_key_value_heads"] = given["heads"]
    config |= {KEYS[key]: value for key, value in given.items()}
    model = from_config(config, first, f"`{text}`")
    missing = set(NEEDED) - given.keys()
    assumption = f"{first}: taken to have the shape of {like}; a model directory or config.json is exact"
    if experts:  # 8x7B is not 56B: experts share all but their MLPs
        if missing and not 0.8 < billions / nearest < 1.25:
            raise WrongUsage(f"no shape is known for {first}; give its own: {', '.join(f'{key}=' for key in NEEDED)}")
    else:
        model = _scaled(model, round(billions * 1e9), first)
    return dataclasses.replace(model, assumption=assumption if missing else None)


def _given(parts: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in KEYS or not value.isascii() or not value.isdigit() or not 1 <= int(value[:12]) <= 10**9:
            raise WrongUsage(f"`{part}` is not understood; write one of {', '.join(KEYS)} as for example layers=32")
        if key in found:
            raise WrongUsage(f"`{key}` is given twice")
        found[key] = int(value[:12])
    return found


def _scaled(model: Model, parameters: int, name: str) -> Model:
    """With its linear layers scaled so that all together have so many parameters."""
    scalable = sum(weights.parameters for weights in model.weights if weights.is_quantized)
    wanted = parameters - (model.parameters - scalable)
    if wanted <= 0 or not 0.2 < wanted / scalable < 5:
        raise WrongUsage(
            f"{name} parameters do not go with this shape, which has {model.parameters / 1e9:.3g}B;"
            f" give its own: {', '.join(f'{key}=' for key in NEEDED)}"
        )
    weights = tuple(
        dataclasses.replace(one, parameters=round(one.parameters * wanted / scalable)) if one.is_quantized else one
        for one in model.weights
    )
    return dataclasses.replace(model, weights=weights)
