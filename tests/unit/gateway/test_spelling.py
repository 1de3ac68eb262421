"""Pieces of JSON that are put together by hand are those that the library writes."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import spelling
from gateway.spelling import (
    MOST_CHARS,
    MOST_TEXTS,
    billionths,
    digits,
    flag,
    quoted,
    thousandths,
    time_in_milliseconds,
    time_in_seconds,
)

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=2 * MOST_CHARS)
counts = st.integers(-(10**6), 10**6) | st.integers(0, 2**53) | st.integers(0, 10**12).map(lambda n: n * 1000)


@given(texts)
def test_a_text(text: str) -> None:
    assert quoted(text) == quoted(text) == orjson.dumps(text)


@given(counts)
def test_an_integer(number: int) -> None:
    assert digits(number) == orjson.dumps(number)


@given(counts)
def test_thousandths(count: int) -> None:
    assert thousandths(count) == orjson.dumps(count / 1000)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 100, 999, 1000, 1001, 1010, 10**15 - 1, 10**15, 2**53])
def test_thousandths_at_their_edges(count: int) -> None:
    assert thousandths(count) == orjson.dumps(count / 1000)


@given(st.integers(0, 2**53) | st.integers(1_790_000_000_000, 1_790_000_003_000))
def test_a_time(milliseconds: int) -> None:
    assert time_in_seconds(milliseconds) == orjson.dumps(milliseconds / 1000)
    assert time_in_milliseconds(milliseconds) == orjson.dumps(milliseconds)


@given(st.integers(0, 10**15))
def test_billionths(count: int) -> None:
    whole, rest = divmod(count, 10**9)
    assert billionths(count) == b"%d.%09d" % (whole, rest)


def test_a_flag() -> None:
    assert (flag(True), flag(False)) == (b"true", b"false")


def test_texts_are_kept_up_to_a_bound() -> None:
    for number in range(2 * MOST_TEXTS):
        assert quoted(f"text {number}") == b'"text %d"' % number
    assert len(spelling._texts) <= MOST_TEXTS
    long = "x" * (MOST_CHARS + 1)
    assert quoted(long) == orjson.dumps(long)
    assert long not in spelling._texts
