"""What can be adapted in a checkpoint: its linear layers, as the heads of its weights tell them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from workers.adapters.tensors import scalars, tensors_in
from workers.errors import WrongUsage
from workers.reading import content
from workers.weight_files import Tensor

# Matrices that are no linear layers of the blocks: what turns tokens into vectors, and vectors into tokens.
EMBEDDINGS = ("embed_tokens", "wte", "wpe", "embed_in", "embed_out", "word_embeddings", "lm_head")
PACKED = {"weight_packed": "weight_shape"}  # compressed-tensors' packed weights, and where their shape is kept


@dataclass(frozen=True, slots=True)
class Linear:
    outputs: int
    inputs: int


@dataclass(frozen=True, slots=True)
class Base:
    """`linears` by their full name in the checkpoint; `opaque` where the layout of some weights is not known here."""

    directory: Path
    config: Mapping[str, Any]
    linears: Mapping[str, Linear]
    opaque: bool

    @property
    def suffixes(self) -> frozenset[str]:
        """The last part of each linear layer's name, by which PEFT and vLLM call them."""
        return frozenset(name.rpartition(".")[2] for name in self.linears)

    @property
    def is_quantized(self) -> bool:
        return "quantization_config" in self.config

    @property
    def context(self) -> int | None:
        """The longest text in tokens, where the configuration says so."""
        value = self.config.get("max_position_embeddings")
        return value if isinstance(value, int) else None


def read_base(directory: Path) -> Base:
    """Raises WrongUsage where it is no checkpoint, or its weights are broken."""
    if not directory.is_dir():
        raise WrongUsage(f"no such checkpoint directory: {directory}")
    path = directory / "config.json"
    try:
        config: Any = json.loads(content(path))
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise WrongUsage(f"{directory} has no config.json that can be read; is it a Hugging Face checkpoint?")
    tensors = tensors_in(directory)
    if not tensors:
        raise WrongUsage(f"{directory} has no weights (*.safetensors)")
    linears: dict[str, Linear] = {}
    opaque = False
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        if module.rpartition(".")[2] in EMBEDDINGS:
            continue
        shape = _shape(part, module, tensor, tensors)
        if shape is not None:
            linears[module] = Linear(*shape)
        opaque = opaque or (part in {"qweight", "weight_packed"} and shape is None)
    return Base(directory, cast("dict[str, Any]", config), linears, opaque)


def _shape(part: str, module: str, tensor: Tensor, tensors: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """(outputs, inputs) of a linear layer's weights; None for everything else."""
    if part == "weight" and len(tensor.shape) == 2:
        return tensor.shape[0], tensor.shape[1]
    kept = tensors.get(f"{module}.{PACKED.get(part, '')}")
    if part in PACKED and kept is not None and kept.dtype == "I64" and kept.shape == (2,):
        outputs, inputs = scalars(kept)
        return outputs, inputs
    return None


def chosen_targets(base: Base, asked: Collection[str] | None) -> tuple[str, ...]:
    """The names of the layers to adapt: those asked for, or all linear ones. Raises WrongUsage."""
    if base.is_quantized:
        raise WrongUsage(
            f"{base.directory} is quantized; train on the checkpoint it was made from, the adapter then serves on both"
        )
    known = ", ".join(sorted(base.suffixes))
    if not known:
        raise WrongUsage(f"{base.directory} has no linear layers that can be told by their names")
    for name in asked or ():
        if name in EMBEDDINGS:
            raise WrongUsage(f"--targets {name}: engines do not adapt embeddings and output heads; choose from {known}")
        if name not in base.suffixes:
            raise WrongUsage(f"--targets {name}: the base has no such linear layer; choose from {known}")
    return tuple(sorted(set(asked) if asked else base.suffixes))
