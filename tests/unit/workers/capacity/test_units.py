from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.capacity import units
from workers.errors import WrongUsage


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("48GB", 48 * 10**9),
        ("48", 48 * 10**9),
        ("44.5GiB", 44 * 2**30 + 2**29),
        ("128MiB", 2**27),
        ("1tb", 10**12),
        (" 2 kB ", 2000),
        ("4096B", 4096),
    ],
)
def test_sizes_are_decimal_unless_they_say_otherwise(text: str, size: int) -> None:
    assert units.bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "48 apples", "nan", "1e9", "0", "48GBGB", "٤٨GB", "99999999TB"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(WrongUsage, match="48GB"):
        units.bytes_of(text)


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("2s", 2.0), ("1.5s", 1.5), ("1m", 60.0)])
def test_durations(text: str, seconds: float) -> None:
    assert units.seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "0ms", "-5ms", "5 hours", "inf s"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(WrongUsage, match="500ms"):
        units.seconds_of(text)


@given(st.text(alphabet="0123456789.GMKTiB -e٤", max_size=20))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        assert units.bytes_of(text) > 0
    except WrongUsage:
        pass


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (units.size(14e9), "14.0 GB"),
        (units.size(999.6e9), "1.00 TB"),
        (units.size(512), "512 B"),
        (units.duration(0.0341), "34.1 ms"),
        (units.duration(0.9999), "1.00 s"),
        (units.count(52352), "52.4k"),
        (units.count(175e9), "175B"),
        (units.count(7), "7"),
        (units.usd(7.6), "$7.60"),
        (units.usd(0.000484), "$0.00048"),
        (units.usd(0), "$0.00"),
    ],
)
def test_three_digits_are_enough(written: str, expected: str) -> None:
    assert written == expected
