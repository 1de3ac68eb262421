"""What safetensors files hold, read without any library of tensors: names, types and shapes from their heads (the
format: huggingface/safetensors, "Format"), and whether numbers are finite from their bytes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from workers.errors import WorkerToolError

MOST_HEAD_BYTES = 100 * 1024 * 1024  # as the format's own library has it
CHUNK = 8 * 2**20  # a multiple of every number's size
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


class CannotRead(WorkerToolError):
    """A file is no safetensors file, or not whole."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one is: `begin` and `end` in bytes of the file."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int
    end: int

    def chunks(self) -> Iterator[bytes]:
        with self.file.open("rb") as file:
            file.seek(self.begin)
            left = self.end - self.begin
            while left and (chunk := file.read(min(left, CHUNK))):
                left -= len(chunk)
                yield chunk


def tensors_in(directory: Path) -> dict[str, Tensor]:
    """Of all safetensors files right there, by name. Raises CannotRead."""
    found: dict[str, Tensor] = {}
    for file in sorted(directory.glob("*.safetensors")):
        found |= tensors_of(file)
    return found


def tensors_of(file: Path) -> dict[str, Tensor]:
    """Raises CannotRead."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > MOST_HEAD_BYTES:
                raise CannotRead(f"{file} is no safetensors file")
            head: Any = json.loads(opened.read(length))
        size = file.stat().st_size - 8 - length
        found = {
            name: Tensor(str(one["dtype"]), tuple(map(int, one["shape"])), file, *_span(one, 8 + length, size))
            for name, one in cast("dict[str, Any]", head).items()
            if name != "__metadata__"
        }
    except OSError as error:
        raise CannotRead(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CannotRead(f"{file} is not whole, or no safetensors file; copy it again") from None
    return found


def _span(tensor: Any, start: int, size: int) -> tuple[int, int]:
    begin, end = map(int, tensor["data_offsets"])
    if not 0 <= begin <= end <= size:
        raise ValueError
    return start + begin, start + end


def has_not_finite(tensor: Tensor) -> bool:
    """Whether a number in it is infinite or none (NaN): its exponent is all ones. Of integers none is."""
    return any(_not_finite(tensor.dtype, chunk) for chunk in tensor.chunks())


def is_zero(tensor: Tensor) -> bool:
    """Whether all of it is zero bytes."""
    return not any(chunk.strip(b"\0") for chunk in tensor.chunks())


def _not_finite(dtype: str, content: bytes) -> bool:
    """Of little-endian numbers: the last byte of each has its sign and the exponent's first bits."""
    size = BYTES.get(dtype)
    if size is None:
        return False
    last, before = content[size - 1 :: size], content[size - 2 :: size]
    if dtype == "F16":  # 5 bits
        return re.search(rb"[\x7c-\x7f\xfc-\xff]", last) is not None
    least = 0x80 if dtype != "F64" else 0xF0  # of 8 bits one is in the byte before, of 11 bits four
    return any(before[one.start()] & least == least for one in re.finditer(rb"[\x7f\xff]", last))


def scalars(tensor: Tensor) -> list[int]:
    """The numbers of a small tensor of 64-bit integers."""
    content = b"".join(tensor.chunks())
    return [
        int.from_bytes(content[at : at + 8], "little", signed=True) for at in range(0, 8 * math.prod(tensor.shape), 8)
    ]
