"""How much an artifact will take, and whether the disk has it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from workers.errors import WrongUsage
from workers.quantization.recipes import QuantizationRecipe
from workers.quantization.weights import bytes_of, is_linear
from workers.weight_files import Tensor

RESERVE = 64 * 2**20  # tokenizer, configuration, and not the last byte of a disk
MARGIN = 1.05


def bits_per_linear_weight(recipe: QuantizationRecipe, budget: float) -> float:
    """Scales included; `budget` is what mixed precision may use."""
    return budget if recipe.method == "mixed" else recipe.weight_bits + recipe.scale_bits


def artifact_bytes(tensors: Sequence[Tensor], bits: float) -> int:
    """The weights of an artifact whose linear layers have so many bits per weight; the others stay as they are."""
    linear = [tensor for tensor in tensors if is_linear(tensor)]
    return round(sum(tensor.count for tensor in linear) * bits / 8) + bytes_of(tensors) - bytes_of(linear)


def check_space(out: Path, needed: int) -> None:
    """Refuse to begin what the disk under `out` has no room for."""
    parent = next(path for path in out.absolute().parents if path.exists())
    disk = os.statvfs(parent)
    free = disk.f_bavail * disk.f_frsize
    if free < needed * MARGIN + RESERVE:
        raise WrongUsage(
            f"{parent} has {gigabytes(free)} free, and {gigabytes(round(needed * MARGIN + RESERVE))} are needed for"
            f" {out.name}; make room, or choose a --out on another disk"
        )


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
