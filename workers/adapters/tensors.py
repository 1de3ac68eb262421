"""Numbers in safetensors files, judged from their bytes without any library of tensors: finite, or all zero."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from workers.errors import WrongUsage
from workers.weight_files import BITS, FLOATS, Tensor, read_header

CHUNK = 8 * 2**20  # a multiple of every number's size


def tensors_in(directory: Path) -> dict[str, Tensor]:
    """Of all safetensors files right there, by name. Raises WrongUsage."""
    return {name: one for file in sorted(directory.glob("*.safetensors")) for name, one in tensors_of(file).items()}


def tensors_of(file: Path) -> dict[str, Tensor]:
    """Of one file, by name. Raises WrongUsage."""
    try:
        return {tensor.name: tensor for tensor in read_header(file)}
    except OSError as error:
        raise WrongUsage(f"{file} cannot be read: {error.strerror}") from None


def has_not_finite(tensor: Tensor) -> bool:
    """Whether a number in it is infinite or none (NaN): its exponent is all ones. Of integers none is."""
    return tensor.dtype in FLOATS and any(_not_finite(tensor.dtype, chunk) for chunk in _chunks(tensor))


def is_zero(tensor: Tensor) -> bool:
    """Whether all of it is zero bytes."""
    return not any(chunk.strip(b"\0") for chunk in _chunks(tensor))


def scalars(tensor: Tensor) -> list[int]:
    """The numbers of a small tensor of 64-bit integers."""
    content = b"".join(_chunks(tensor))
    return [int.from_bytes(content[at : at + 8], "little", signed=True) for at in range(0, 8 * tensor.count, 8)]


def _not_finite(dtype: str, content: bytes) -> bool:
    """Of little-endian numbers: the last byte of each has its sign and the exponent's first bits."""
    size = BITS[dtype] // 8
    last, before = content[size - 1 :: size], content[size - 2 :: size]
    if dtype == "F16":  # 5 bits
        return re.search(rb"[\x7c-\x7f\xfc-\xff]", last) is not None
    least = 0xF0 if dtype == "F64" else 0x80  # of 8 bits one is in the byte before, of 11 bits four
    return any(before[one.start()] & least == least for one in re.finditer(rb"[\x7f\xff]", last))


def _chunks(tensor: Tensor) -> Iterator[bytes]:
    with tensor.path.open("rb") as file:
        file.seek(tensor.start)
        left = tensor.end - tensor.start
        while left and (chunk := file.read(min(left, CHUNK))):
            left -= len(chunk)
            yield chunk
