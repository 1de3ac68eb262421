"""Records survive as they were said; whatever else stands in a segment, a reader gives a beginning of what was said."""

from __future__ import annotations

import struct
import zlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.journal.format import (
    COUNT,
    HEAD,
    LETTERS,
    MAGIC,
    MAX_BODY,
    MAX_ENTRY,
    START,
    Entry,
    Said,
    Torn,
    Unfit,
    beginning,
    define,
    entry,
    framed,
    is_blank,
    is_cut_short,
    is_segment,
    parse,
    reading,
    record_at,
    renumbered,
    settled_before,
)
from gateway.ledger.record import Label, Line, Reading
from tests.unit.gateway.ledger.journal.rows import LABEL, LINE, READING, any_attempt, row, written

ROOM = 64  # zeros after the last record


def segment(said, settled=0):
    """The bytes of a segment that holds all of `said`, and what a reader has to give of them."""
    data, known, expected = bytearray(MAGIC + COUNT.pack(settled)), {}, []
    for one in said:
        if isinstance(one, Reading):
            data += framed(reading(one))
            expected.append(one)
            continue
        kind, attempt = one
        key = attempt.line, attempt.label
        if key not in known:
            known[key] = len(known)
            data += framed(define(known[key], *key))
        data += framed(entry(LETTERS[kind], known[key], attempt))
        expected.append(Entry(kind, attempt))
    return bytes(data) + bytes(ROOM), expected


def records(data, at, lines):
    """Each record of a segment with where it ends; of a name None."""
    if at < START:
        if not is_segment(data):
            raise Torn(at)
        at = START
    while (body := record_at(data, at)) is not None:
        try:
            one = parse(body, lines)
        except ValueError as error:
            raise Torn(at) from error
        at += HEAD.size + len(body)
        yield at, one.entry() if isinstance(one, Said) else one


def read(data, at=0):
    """What a reader gives, and whether it met something that is no record."""
    found = []
    try:
        for _, one in records(data, at, {}):
            if one is not None:
                found.append(one)
    except Torn:
        return found, True
    return found, False


@given(written, st.integers(0, 2**64 - 1))
def test_what_was_said_is_read(said, settled):
    data, expected = segment(said, settled)
    assert read(data) == (expected, False)
    assert settled_before(data) == settled


@given(written, st.data())
def test_a_segment_that_ends_anywhere_gives_a_beginning(said, data):
    whole, expected = segment(said)
    cut = data.draw(st.integers(0, len(whole)))
    found, _ = read(whole[:cut])
    assert found == expected[: len(found)]
    found, _ = read(whole[:cut] + bytes(len(whole) - cut))  # as in a file whose space is taken
    assert found == expected[: len(found)]


@given(written, st.data())
def test_a_flipped_bit_anywhere_gives_a_beginning(said, data):
    whole, expected = segment(said)
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    found, _ = read(bytes(damaged))
    assert found == expected[: len(found)]


def test_every_single_bit_and_every_cut():
    """All of them, of a small segment: where a prefix must end is known."""
    said = [("intent", row(1)), READING, ("settle", row(1, choices=3)), ("settle", row(2, label=Label("x")))]
    whole, expected = segment(said)
    ends, at = [], START
    while at < len(whole) - ROOM:
        at += HEAD.size + HEAD.unpack_from(whole, at)[0]
        ends.append(at)
    given_at = [0, *(len([one for one in records(whole[:end], 0, {}) if one[1] is not None]) for end in ends)]
    for cut in range(len(whole)):
        count = given_at[len([end for end in ends if end <= cut])] if cut >= START else 0
        assert read(whole[:cut])[0] == expected[:count]
        found, _ = read(whole[:cut] + bytes(len(whole) - cut))  # which takes nothing away where zeros stood
        assert found == expected[: len(found)]
        assert count <= len(found) <= count + 1
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        found, torn = read(bytes(damaged))
        if len(MAGIC) <= bit // 8 < START:  # the count of settlements, which only a figure of lag is made of
            assert (found, torn) == (expected, False)
            continue
        whole_before = len([end for end in ends if end <= bit // 8])
        count = given_at[whole_before] if bit // 8 >= START else 0
        assert found == expected[:count]
        assert torn == (bit // 8 < len(whole) - ROOM + HEAD.size), "damage is noticed, unless far in the zeros"


@given(st.binary(max_size=400))
def test_any_bytes_raise_nothing_but_torn(noise):
    for data in (noise, MAGIC + bytes(8) + noise, MAGIC + bytes(8) + framed(noise)):
        read(data)
        is_blank(data, min(START, len(data)))
        is_cut_short(data, min(START, len(data)))
        settled_before(data)


@pytest.mark.parametrize(
    "body",
    [
        b"X",
        b"D",
        b"D\0\0\0\0[]",
        b"D\0\0\0\0{}",
        b"D\0\0\0\0nonsense",
        b"R",
        b"B",
        beginning(7, row().request_id, 1, 1.0, 2.0, 3, 4, 1),
        beginning(0, row().request_id, 1, 1.0, 2.0, 3, 4, 1)[:-1],
        beginning(0, row().request_id, 1, 1.0, 2.0, 3, 4, 2)[:-1],
        entry(b"S", 0, row()) + b"\0",
        entry(b"S", 0, row()) + b"\1\0",  # as many are not written
        entry(b"S", 0, row()) + b"\0\0",
        entry(b"S", 0, row(choices=2)) + b"\0",
        entry(b"S", 0, row())[:37] + b"\xf0" + entry(b"S", 0, row())[38:],  # an outcome that nobody knows
        b"R[]",
        b"Rnull",
        b"S",
        entry(b"S", 7, row()),  # of a line that was never named
        entry(b"Z", 0, row()),
        entry(b"S", 0, row())[:10] + b"\xff" + entry(b"S", 0, row())[11:],
        bytes(40),
    ],
)
def test_a_body_of_another_program_is_torn(body):
    """The sum is right, and still it is none of ours."""
    data, expected = segment([("settle", row(1))])
    found, torn = read(data[:-ROOM] + framed(body) + framed(entry(b"S", 0, row(2))))
    assert torn
    assert found == expected


def test_a_record_that_becomes_visible_piece_by_piece():
    """A reader beside the writer sees any part of the bytes being copied, and the whole of them later."""
    data, expected = segment([("settle", row(1)), ("settle", row(2))])
    last = len(data) - ROOM - HEAD.size - len(entry(b"S", 0, row()))
    end = len(data) - ROOM
    for until in range(last, end):
        for partly in (data[:until] + bytes(len(data) - until), data[:last] + bytes(until - last) + data[until:]):
            if partly != data:
                assert read(partly)[0] == expected[:1]
    lines = {}
    positions = [at for at, _ in records(data[:last] + bytes(len(data) - last), 0, lines)]
    assert [one for _, one in records(data, positions[-1], lines)] == expected[1:]


def test_what_a_dying_process_leaves_is_told_from_damage():
    data, _ = segment([("settle", row(number, choices=2)) for number in range(1, 5)])
    last = len(data) - ROOM - MAX_ENTRY
    before = last - MAX_ENTRY
    assert is_cut_short(data, len(data) - ROOM)
    for cut in range(last, len(data) - ROOM):
        assert is_cut_short(data[:cut] + bytes(len(data) - cut), last)
        assert is_cut_short(data[:last] + bytes(cut - last) + data[cut:], last)
    assert not is_cut_short(data[: before + 5] + b"\xff" + data[before + 6 :], before)
    assert not is_cut_short(data[:before] + bytes(MAX_ENTRY) + data[last:], before)  # a page that was never written
    long = framed(define(0, LINE, Label("x" * 1_000)))
    assert is_cut_short(MAGIC + bytes(8) + long[:-1] + bytes(100), START)
    assert is_blank(bytes(10), 3)
    assert not is_blank(bytes(10) + b"x", 3)
    assert is_blank(b"abc", 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"request_id": "req_short"},
        {"request_id": "req_" + "x" * 29},
        {"request_id": "xxx_" + "x" * 28},
        {"request_id": "req_" + "é" * 28},
        {"number": 256},
        {"number": -1},
        {"correction": 256},
        {"status": 65_536},
        {"cost_nanousd": 2**63},
        {"prompt_tokens": -(2**63) - 1},
        {"outcome": "unheard of"},
        {"choices": 65_536},
        {"choices": 0},
    ],
)
def test_what_has_no_place_in_a_record_is_said_and_not_bent(fields):
    with pytest.raises(Unfit):
        entry(b"S", 0, row()._replace(**fields))


@pytest.mark.parametrize("label", [Label("\ud800"), Label("m", "x" * MAX_BODY)])
def test_names_that_no_record_holds(label):
    with pytest.raises(Unfit):
        define(0, LINE, label)


@given(any_attempt, st.integers(0, 2**32 - 1))
def test_a_beginning_holds_what_is_known_of_an_intent(attempt, number):
    known = attempt.started_at, attempt.opened_at, attempt.prompt_tokens, attempt.cost_nanousd
    body = renumbered(beginning(0, attempt.request_id, attempt.number, *known, attempt.choices), number)
    said = parse(body, {number: (attempt.line, attempt.label)})
    assert said.entry() == Entry(
        "intent",
        attempt._replace(
            **dict.fromkeys(["correction", "status", "cached_tokens", "output_tokens", "gpu_ns"], 0),
            **{"ttft_seconds": None, "duration_seconds": 0.0, "outcome": "crashed", "estimated": True, "final": True},
        ),
    )
    assert said.key == parse(entry(b"S", number, attempt), {number: (attempt.line, attempt.label)}).key
    assert not said.is_end


@pytest.mark.parametrize(
    "values",
    [
        ("req_short", 1, 0, 1),
        ("req_" + "0" * 28, 256, 0, 1),
        ("req_" + "0" * 28, 1, 2**63, 1),
        ("req_" + "0" * 28, 1, 0, 0),
        ("req_" + "0" * 28, 1, 0, 65_536),
    ],
)
def test_what_has_no_place_in_a_beginning(values):
    request_id, number, cost, choices = values
    with pytest.raises(Unfit):
        beginning(0, request_id, number, 1.0, 2.0, 3, cost, choices)


@pytest.mark.parametrize(
    "fields", [{"kv_usage": float("nan")}, {"at": float("inf")}, {"worker": "\ud800"}, {"busy_ns": 2**70}]
)
def test_readings_that_no_record_holds(fields):
    with pytest.raises(Unfit):
        reading(READING._replace(**fields))
    with pytest.raises(Unfit):
        reading(READING._replace(worker="x" * MAX_BODY))


def test_the_bytes_are_those_of_the_description():
    """Another program can read them: little-endian, a length and a sum before each body."""
    data, _ = segment([("settle", row(3, ttft_seconds=None, final=False, estimated=True))], settled=9)
    assert data.startswith(b"TOLLGATE-JOURNAL 1\n" + struct.pack("<Q", 9))
    length, crc = struct.unpack_from("<II", data, START)
    body = data[START + 8 : START + 8 + length]
    assert zlib.crc32(body) == crc
    assert body[:5] == b"D\0\0\0\0"
    assert orjson.loads(body[5:]) == [*LINE, *LABEL]
    length, crc = struct.unpack_from("<II", data, at := START + 8 + length)
    body = data[at + 8 : at + 8 + length]
    assert zlib.crc32(body) == crc
    said = (
        *(b"S", 0, b"%028x" % 3, 1, 0, 200, 0, True),
        *(1_790_000_000.25, 1_790_000_000.5, 0.0, 0.75),
        *(103, 40, 25, 12_345_678, 309_003),
    )
    assert struct.unpack("<cI28sBBHB?ddddqqqqq", body) == said
    several = entry(b"S", 0, row(3, ttft_seconds=None, final=False, estimated=True, choices=300))
    assert struct.unpack("<cI28sBBHB?ddddqqqqqH", several) == (*said, 300)
    begun = beginning(0, row(3).request_id, 1, 1.5, 2.5, 3, 4, 300)
    assert struct.unpack("<cI28sBddqqH", begun) == (b"B", 0, b"%028x" % 3, 1, 1.5, 2.5, 3, 4, 300)
    assert begun[:-2] == beginning(0, row(3).request_id, 1, 1.5, 2.5, 3, 4, 1)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20))
def test_lines_are_named_once(pairs):
    said = [("settle", row(1, line=LINE._replace(tenant=f"t{a}"), label=Label(f"m{b}"))) for a, b in pairs]
    data, expected = segment(said)
    lines: dict[int, tuple[Line, Label]] = {}
    assert [one for _, one in records(data, 0, lines) if one is not None] == expected
    assert len(lines) == len(set(pairs))
