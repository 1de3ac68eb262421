"""The weights of a checkpoint: which of them recipes quantize, how many they are, and whether the kernels take them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from workers.errors import WrongUsage
from workers.reading import content
from workers.weight_files import Tensor, read_header

INDEX = "model.safetensors.index.json"
# Not linear, or kept at their precision: embeddings, the output head, and everything that is no matrix.
_KEPT = re.compile(r"(^|\.)(lm_head|embed_\w+|\w*embeddings?|wte|wpe)(\.|$)")


def is_linear(tensor: Tensor) -> bool:
    """Whether it is the weight of a layer that recipes quantize."""
    return len(tensor.shape) == 2 and tensor.name.endswith(".weight") and not _KEPT.search(tensor.name)


def tensors_of(directory: Path) -> list[Tensor]:
    """Every tensor of a checkpoint. Raises WrongUsage where a file is missing, cut short or no safetensors file."""
    paths = sorted(directory.glob("*.safetensors"))
    if not paths:
        raise WrongUsage(
            f"{directory} has no weights (*.safetensors); save the model with `save_pretrained` of transformers"
        )
    for name in _indexed(directory):
        if not (directory / name).is_file():
            raise WrongUsage(f"{directory / name} is missing, and {INDEX} names it; download the checkpoint again")
    return [tensor for path in paths for tensor in read_header(path)]


def check_multiples(tensors: Sequence[Tensor], multiple: int, recipe: str) -> None:
    """Refuse layers whose inputs the recipe's groups, or the engine's kernels, do not divide."""
    odd = [tensor for tensor in tensors if is_linear(tensor) and tensor.shape[-1] % multiple]
    if odd:
        raise WrongUsage(
            f"{recipe} needs layers whose inputs are a multiple of {multiple}, and {len(odd)} are not, such as"
            f" {odd[0].name} with {odd[0].shape[-1]}; try another recipe (fp8 and w8a8 need multiples of 16)"
        )


def parameters_of(tensors: Sequence[Tensor]) -> tuple[int, int]:
    """How many weights recipes quantize, and how many others there are."""
    linear = sum(tensor.count for tensor in tensors if is_linear(tensor))
    return linear, sum(tensor.count for tensor in tensors) - linear


def bytes_of(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.bytes for tensor in tensors)


def _indexed(directory: Path) -> set[str]:
    try:
        found: Any = json.loads(content(directory / INDEX))
        return set(cast("dict[str, str]", found["weight_map"]).values())
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WrongUsage(f"{directory / INDEX} is broken ({error!r}); download the checkpoint again") from None
