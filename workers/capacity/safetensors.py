"""Names, types and shapes of a safetensors file's tensors, from its header alone.

The format: 8 bytes with the header's length, little-endian, then that much JSON, then the tensors
(https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

from workers.errors import WrongUsage

LONGEST_HEADER = 100_000_000  # the format's own limit, bytes


@dataclass(frozen=True, slots=True)
class Tensor:
    """`bytes` are what it takes in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        return prod(self.shape)


def tensors_of(path: Path) -> list[Tensor]:
    """All tensors of one file. Raises WrongUsage for a file that is none, or not all there."""
    try:
        total = path.stat().st_size
        if not path.is_file():
            raise WrongUsage(f"{path} is no file")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if total < 8 or not 2 <= length <= min(LONGEST_HEADER, total - 8):
                raise WrongUsage(f"{path} is not a safetensors file, or only a pointer to one; download it again")
            written = file.read(length)
    except OSError as error:
        raise WrongUsage(f"{path} cannot be read: {error.strerror}") from None
    try:
        header: Any = json.loads(written)
        found = [_tensor(name, entry) for name, entry in header.items() if name != "__metadata__"]
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise WrongUsage(f"{path}: the header is damaged; download the file again") from None
    if 8 + length + end > total:
        raise WrongUsage(f"{path} ends after {total} bytes, {8 + length + end} are needed; download it again")
    return found


def _tensor(name: str, entry: Any) -> Tensor:
    fields = cast("Mapping[str, Any]", entry)
    shape, (start, end) = tuple(fields["shape"]), fields["data_offsets"]
    if not all(type(size) is int and size >= 0 for size in (*shape, start, end)) or end < start:
        raise ValueError(name)
    return Tensor(name, str(fields["dtype"]), shape, end - start)
