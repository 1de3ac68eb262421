"""What is refused of an adapter before any library is loaded: its layout, and whether it fits the base."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from workers.errors import WrongUsage
from workers.reading import content
from workers.weight_files import Tensor, read_header

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
KEPT_IN = "adapter"  # of an artifact
_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class LoraAdapter:
    directory: Path
    rank: int
    tensors: Sequence[Tensor]


def read_lora(directory: Path, base: Sequence[Tensor]) -> LoraAdapter:
    """A LoRA adapter in PEFT's layout that fits the base's layers. Raises WrongUsage."""
    config = _config(directory)
    rank: object = config.get("r")
    if config.get("peft_type") != "LORA" or type(rank) is not int or rank < 1:
        raise WrongUsage(f"{directory / CONFIG} is not a LoRA adapter's (peft_type: LORA and a rank `r`)")
    if not (directory / WEIGHTS).is_file():
        raise WrongUsage(f"{directory} has no {WEIGHTS}; save the adapter with `save_pretrained` of PEFT")
    tensors = read_header(directory / WEIGHTS)
    shapes = {tensor.name: tensor.shape for tensor in base}
    for tensor in tensors:
        _check(tensor, shapes)
    return LoraAdapter(directory, rank, tensors)


def _check(tensor: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> None:
    module, _, side = tensor.name.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
    if side not in ("lora_A", "lora_B"):
        raise WrongUsage(
            f"{tensor.path}: {tensor.name} is neither lora_A nor lora_B, and vLLM serves no other kind of adapter;"
            " train it with LoRA alone"
        )
    shape = shapes.get(f"{module}.weight")
    if shape is None or len(shape) != 2:
        raise WrongUsage(f"{tensor.path} adapts {module}, which the base does not have; give it the base it is for")
    wanted = shape[1] if side == "lora_A" else shape[0]
    if len(tensor.shape) != 2 or tensor.shape[1 if side == "lora_A" else 0] != wanted:
        raise WrongUsage(
            f"{tensor.path}: {tensor.name} is {'×'.join(map(str, tensor.shape))} for a layer of"
            f" {'×'.join(map(str, shape))}; give it the base it is for"
        )


def _config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    try:
        found: Any = json.loads(content(path))
    except OSError as error:
        raise WrongUsage(f"--adapter {directory}: {path} cannot be read: {error.strerror}; give a PEFT LoRA") from None
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise WrongUsage(f"{path} is not a PEFT adapter's configuration")
    return cast("dict[str, Any]", found)
