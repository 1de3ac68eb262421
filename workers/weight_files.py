"""Safetensors files without a library: what their headers say, and whether the bytes that they promise are there.

The format: eight bytes of length (little endian), a JSON header with type, shape and offsets of each tensor, then the
tensors (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from workers.errors import WrongUsage
from workers.reading import opened

LONGEST_HEADER = 100_000_000  # the library's own bound
BITS = {
    **{"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8},
    **{"U16": 16, "U32": 32, "U64": 64, "F8_E4M3": 8, "F8_E5M2": 8},
    **{"F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "C64": 64},
}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file: `start` and `end` count bytes from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int
    end: int

    @property
    def count(self) -> int:
        """Of its elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.end - self.start


def read_header(path: Path) -> list[Tensor]:
    """The tensors of one file in the order of their bytes. Raises WrongUsage."""
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(LONGEST_HEADER, size - 8):
                raise WrongUsage(
                    f"{path} is no safetensors file, or only a pointer to one, or cut short: {size} bytes; download or"
                    " copy it again"
                )
            header = file.read(length)
    except OSError as error:
        raise WrongUsage(f"{path} cannot be read: {error.strerror}; download or copy it again") from None
    try:
        found: Any = json.loads(header)
        tensors = sorted(_parsed(path, found, 8 + length), key=lambda tensor: tensor.start)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WrongUsage(f"{path} has a broken header ({error!r}); download or copy it again") from None
    end = 8 + length
    for tensor in tensors:
        if tensor.start != end or (tensor.end - tensor.start) * 8 != tensor.count * BITS[tensor.dtype]:
            raise WrongUsage(f"{path}: {tensor.name} is not where its header says; download or copy it again")
        end = tensor.end
    if end != size:
        raise WrongUsage(f"{path} should have {end} bytes and has {size}: cut short; download or copy it again")
    return tensors


def _parsed(path: Path, found: dict[str, Any], offset: int) -> Iterator[Tensor]:
    for name, described in found.items():
        if name == "__metadata__":
            continue
        start, end = described["data_offsets"]
        shape = tuple(described["shape"])
        if described["dtype"] not in BITS or not all(type(n) is int and n >= 0 for n in (start, end, *shape)):
            raise ValueError(name)
        yield Tensor(name, described["dtype"], shape, path, offset + start, offset + end)
