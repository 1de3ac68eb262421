"""Entries as bytes: what goes in comes out, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.codec import decode, encode
from gateway.cache.entry import Entry

COUNT = st.integers(0, 2**32 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ENTRIES = st.builds(
    Entry,
    body=st.binary(max_size=300),
    content_type=st.binary(max_size=40),
    served=TEXT,
    engine_model=TEXT,
    prompt_tokens=COUNT,
    cached_tokens=COUNT,
    output_tokens=COUNT,
)
ONE = Entry(b'{"id":"x"}', b"application/json", "chat-8b@fp8", "chat-8b", 7, 3, 2)


@given(entry=ENTRIES)
def test_what_goes_in_comes_out(entry: Entry) -> None:
    data = encode(entry)
    assert data is not None
    assert decode(data) == entry


@given(junk=st.binary(max_size=100))
def test_junk_is_a_miss(junk: bytes) -> None:
    assert decode(junk) is None


@given(data=st.data())
def test_one_changed_byte_is_a_miss(data: st.DataObject) -> None:
    whole = encode(ONE)
    assert whole is not None
    position = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.integers(1, 255))
    assert decode(whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1 :]) is None


@given(cut=st.integers(0, 50))
def test_a_torn_entry_is_a_miss(cut: int) -> None:
    whole = encode(ONE)
    assert whole is not None
    assert decode(whole[:cut]) is None
    assert decode(whole + b"x") is None


@pytest.mark.parametrize(
    "odd",
    [
        ONE._replace(prompt_tokens=-1),
        ONE._replace(output_tokens=2**40),
        ONE._replace(served="x" * 70_000),
    ],
)
def test_an_entry_out_of_all_range_is_not_kept(odd: Entry) -> None:
    assert encode(odd) is None
