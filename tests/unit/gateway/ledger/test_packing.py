"""Batches as bytes: the same ones come out, and nothing else ever does."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.packing import Unreadable, pack, unpack
from gateway.ledger.record import OUTCOMES, Attempt, Label, Line, Reading
from gateway.ledger.store import Batch
from tests.attempts import attempt

names = st.text(max_size=8).map(lambda text: text.replace("\x00", ""))
whole = st.integers(-(2**63), 2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
attempts = st.builds(
    Attempt,
    request_id=st.text(max_size=40),
    number=st.integers(0, 99),
    correction=st.integers(0, 9),
    line=st.sampled_from([Line(*"abcdefghi"), Line(*"abcdefghj")]),
    label=st.builds(Label, names, names, names),
    started_at=numbers,
    opened_at=numbers,
    ttft_seconds=st.none() | numbers,
    duration_seconds=numbers,
    outcome=st.sampled_from(OUTCOMES),
    status=st.integers(0, 599),
    estimated=st.booleans(),
    final=st.booleans(),
    prompt_tokens=whole,
    cached_tokens=whole,
    output_tokens=whole,
    gpu_ns=whole,
    cost_nanousd=whole,
    choices=st.just(1) | whole,
)
READING = Reading(1.5, "s", "w", "m", "v", 10, True, 1, 2, 3, 4, -1.0, -1, -1, 0.0)


@given(rows=st.lists(attempts, max_size=20), number=st.integers(0, 2**53))
def test_what_is_packed_comes_out(rows, number):
    packed = unpack(pack("source", number, Batch(rows, [READING])))
    assert packed == ("source", number, Batch(rows, [READING]))
    assert all(type(row) is Attempt and type(row.line) is Line for row in packed.batch.attempts)


def test_rows_of_one_choice_are_those_of_versions_that_knew_of_no_others():
    one, three = (orjson.loads(pack("s", 1, Batch([attempt(choices=n)]))[8:])[3][0] for n in (1, 3))
    assert len(one) == 17
    assert three == [*one, 3]


def test_a_name_is_packed_once():
    one, many = (pack("s", 1, Batch([attempt(f"r{row}", user="u" * 500) for row in range(n)])) for n in (1, 100))
    assert len(many) < 100 * (len(one) - 500)


@given(data=st.binary(max_size=60), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_other_bytes_are_unreadable(data, at, bit):
    good = bytearray(pack("source", 7, Batch([attempt()], [READING])))
    good[at % len(good)] ^= 1 << bit
    for bad in (data, bytes(good), bytes(good[: at % len(good)]), pack("s", 1, Batch()) + data + b"."):
        with pytest.raises(Unreadable):
            unpack(bad)


@pytest.mark.parametrize(
    "row",
    [
        attempt(outcome="lost"),
        attempt(tenant=7),
        attempt(user=None),
        attempt()[:-2],
        (*attempt(choices=2), 7),
    ],
)
def test_what_is_no_attempt_is_unreadable_or_not_packed(row):
    with pytest.raises((Unreadable, TypeError)):
        unpack(pack("s", 1, Batch([row])))


@pytest.mark.parametrize("row", [attempt(cost_nanousd=2**70), attempt(status=object()), attempt("\ud800")])
def test_what_cannot_be_written_is_said(row):
    with pytest.raises((TypeError, ValueError)):
        pack("s", 1, Batch([row]))
