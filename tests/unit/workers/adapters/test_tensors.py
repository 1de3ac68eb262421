from __future__ import annotations

import math
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.adapters.files import safetensors
from workers.adapters.tensors import has_not_finite, is_zero, scalars, tensors_in, tensors_of
from workers.errors import WrongUsage
from workers.weight_files import Tensor

FORMATS = {"F16": "<e", "F32": "<f", "F64": "<d"}


def tensor(directory: Path, dtype: str, content: bytes, count: int) -> Tensor:
    safetensors(directory / "a.safetensors", {"before": ("I64", (1,), None), "t": (dtype, (count,), content)})
    return tensors_of(directory / "a.safetensors")["t"]


def packed(dtype: str, numbers: list[float]) -> bytes:
    if dtype == "BF16":  # the upper half of 32 bits
        return b"".join(struct.pack("<f", number)[2:] for number in numbers)
    return b"".join(struct.pack(FORMATS[dtype], number) for number in numbers)


@given(
    st.sampled_from(["BF16", *FORMATS]),
    st.lists(st.one_of(st.floats(-60000, 60000), st.sampled_from([math.nan, math.inf, -math.inf, 0.0])), min_size=1),
)
def test_numbers_that_are_infinite_or_none_are_found(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, numbers: list[float]
) -> None:
    found = tensor(tmp_path_factory.mktemp("t"), dtype, packed(dtype, numbers), len(numbers))

    assert has_not_finite(found) == (not all(map(math.isfinite, numbers)))


@given(st.sampled_from(["BF16", *FORMATS]), st.binary(min_size=8, max_size=64))
def test_any_bits_are_judged_as_the_numbers_they_are(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, bits: bytes
) -> None:
    size = 2 if dtype == "BF16" else struct.calcsize(FORMATS[dtype])
    whole = bits[: len(bits) // size * size]
    wide = (
        struct.unpack(f"<{len(whole) // 2}f", b"".join(b"\0\0" + whole[at : at + 2] for at in range(0, len(whole), 2)))
        if dtype == "BF16"
        else [number for (number,) in struct.iter_unpack(FORMATS[dtype], whole)]
    )

    found = tensor(tmp_path_factory.mktemp("t"), dtype, whole, len(whole) // size)

    assert has_not_finite(found) == (not all(map(math.isfinite, wide)))


@pytest.mark.parametrize(("dtype", "largest"), [("F16", 65504.0), ("BF16", 3.3e38), ("F32", 3.4e38), ("F64", 1.7e308)])
def test_the_largest_numbers_are_finite(tmp_path: Path, dtype: str, largest: float) -> None:
    assert not has_not_finite(tensor(tmp_path, dtype, packed(dtype, [largest, -largest]), 2))


def test_integers_and_bytes_are_always_finite(tmp_path: Path) -> None:
    assert not has_not_finite(tensor(tmp_path, "I64", b"\xff" * 16, 2))


@pytest.mark.parametrize(("content", "zero"), [(b"\0" * 8, True), (b"\0" * 7 + b"\x01", False)])
def test_nothing_but_zeros_is_told(tmp_path: Path, content: bytes, zero: bool) -> None:
    assert is_zero(tensor(tmp_path, "F32", content, 2)) is zero


def test_small_integers_are_read(tmp_path: Path) -> None:
    assert scalars(tensor(tmp_path, "I64", struct.pack("<2q", 768, -3), 2)) == [768, -3]


def test_a_checkpoint_of_several_files_is_one(tmp_path: Path) -> None:
    safetensors(tmp_path / "model-1.safetensors", {"a": ("F32", (2,), None)})
    safetensors(tmp_path / "model-2.safetensors", {"b": ("BF16", (2, 3), None)})

    found = tensors_in(tmp_path)

    assert {name: (one.dtype, one.shape) for name, one in found.items()} == {"a": ("F32", (2,)), "b": ("BF16", (2, 3))}


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda head: struct.pack("<Q", len(head)) + head))
def test_any_bytes_are_tensors_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("t") / "a.safetensors"
    file.write_bytes(content)

    with suppress(WrongUsage):  # any other error fails
        tensors_of(file)


def test_a_file_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    safetensors(file, {"a": ("F32", (2,), None)})
    file.write_bytes(file.read_bytes()[:-1])

    with pytest.raises(WrongUsage, match="cut short"):
        tensors_of(file)
    with pytest.raises(WrongUsage, match="No such file"):
        tensors_of(tmp_path / "b.safetensors")
