"""The bytes of a journal. No IO.

A segment is a magic word, how many settlements the segments before it hold (u64), then records, then zeros. A record is
`<u32 length><u32 CRC-32 of the body><body>`, and a body begins with its kind:

    D  <u32 number> JSON      a line and a label, which entries of this segment name by number
    I  entry                  the intent: an attempt is about to be made; as much of it as is known
    C  entry                  a checkpoint: what it would come to if it ended now
    S  entry                  the settlement: what it came to
    R  JSON                   a reading of a worker

A segment's entries refer to D records of the same segment, so each is read without the others.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, cast

import orjson

from gateway.ledger.record import OUTCOMES, Attempt, Label, Line, Reading

MAGIC = b"TOLLGATE-JOURNAL 1\n"
COUNT = struct.Struct("<Q")
START = len(MAGIC) + COUNT.size
HEAD = struct.Struct("<II")
ENTRY = struct.Struct("<cI28sBBHB?ddddqqqqq")
MAX_BODY = 1 << 20

Kind = Literal["intent", "checkpoint", "settle"]
_KINDS: dict[bytes, Kind] = {b"I": "intent", b"C": "checkpoint", b"S": "settle"}
LETTERS: dict[Kind, bytes] = {kind: letter for letter, kind in _KINDS.items()}
_NUMBERS = {outcome: number for number, outcome in enumerate(OUTCOMES)}
_FINAL, _TIMED = 1, 2  # flags
_PREFIX = "req_"


class Entry(NamedTuple):
    kind: Kind
    attempt: Attempt


class Torn(Exception):
    """What stands at `at` is no whole record: the end of what was written, or of what can be read."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


def framed(body: bytes) -> bytes:
    return HEAD.pack(len(body), zlib.crc32(body)) + body


def define(number: int, line: Line, label: Label) -> bytes:
    """The body of a D record."""
    return b"D" + number.to_bytes(4, "little") + orjson.dumps([*line, *label])


def entry(letter: bytes, number: int, attempt: Attempt) -> bytes:
    """The body of an I, C or S record; `number` is that of its line and label."""
    (
        request_id,
        attempt_number,
        correction,
        _,
        _,
        started_at,
        opened_at,
        ttft,
        duration,
        outcome,
        status,
        estimated,
        final,
        prompt,
        cached,
        output,
        gpu_ns,
        cost,
    ) = attempt
    return ENTRY.pack(
        letter,
        number,
        request_id[4:].encode(),
        attempt_number,
        correction,
        status,
        (_FINAL if final else 0) | (0 if ttft is None else _TIMED) | _NUMBERS[outcome] << 4,
        estimated,
        started_at,
        opened_at,
        0.0 if ttft is None else ttft,
        duration,
        prompt,
        cached,
        output,
        gpu_ns,
        cost,
    )


def reading(one: Reading) -> bytes:
    """The body of an R record."""
    return b"R" + orjson.dumps(one)


def records(
    data: bytes | mmap.mmap, at: int, lines: dict[int, tuple[Line, Label]]
) -> Iterator[tuple[int, Entry | Reading | None]]:
    """What stands in a segment from `at` on: each record and where it ends; None for a D record, which goes to `lines`.

    Ends where zeros begin; raises Torn where something else stands that is no record.
    """
    size = len(data)
    while at + HEAD.size <= size:
        length, crc = HEAD.unpack_from(data, at)
        if not length and not crc:
            return
        end = at + HEAD.size + length
        if length > MAX_BODY or end > size:
            raise Torn(at)
        body = data[at + HEAD.size : end]
        if zlib.crc32(body) != crc:
            raise Torn(at)
        letter = body[:1]
        found: Entry | Reading | None = None
        if letter == b"D":
            names: list[Any] = orjson.loads(body[5:])
            lines[int.from_bytes(body[1:5], "little")] = Line(*names[:9]), Label(*names[9:])
        elif letter == b"R":
            found = Reading(*cast("list[Any]", orjson.loads(body[1:])))
        else:
            found = _entry(body, lines)
        yield end, found
        at = end


def _entry(body: bytes, lines: dict[int, tuple[Line, Label]]) -> Entry:
    (
        letter,
        line_number,
        request_id,
        number,
        correction,
        status,
        flags,
        estimated,
        started_at,
        opened_at,
        ttft,
        duration,
        prompt,
        cached,
        output,
        gpu_ns,
        cost,
    ) = ENTRY.unpack(body)
    line, label = lines[line_number]
    return Entry(
        _KINDS[letter],
        Attempt(
            _PREFIX + request_id.decode(),
            number,
            correction,
            line,
            label,
            started_at,
            opened_at,
            ttft if flags & _TIMED else None,
            duration,
            OUTCOMES[flags >> 4],
            status,
            estimated,
            bool(flags & _FINAL),
            prompt,
            cached,
            output,
            gpu_ns,
            cost,
        ),
    )
