"""The bytes of a journal. No IO.

A segment is a magic word, how many settlements the segments before it hold (u64), then records, then zeros. A record is
`<u32 length><u32 CRC-32 of the body><body>`, and a body begins with its kind:

    D  <u32 number> JSON      a line and a label, which entries of this segment name by number
    I  entry                  the intent: an attempt is about to be made; as much of it as is known
    C  entry                  a checkpoint: what it would come to if it ended now
    S  entry                  the settlement: what it came to
    R  JSON                   a reading of a worker

A segment's entries refer to D records of the same segment, so each is read without the others.

What a reader takes is always a beginning of what was written: it stops where the sum is wrong, whatever stands there.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from math import isfinite
from typing import Any, Literal, NamedTuple, cast

import orjson

from gateway.ledger.record import OUTCOMES, Attempt, Label, Line, Reading

MAGIC = b"TOLLGATE-JOURNAL 1\n"
COUNT = struct.Struct("<Q")
START = len(MAGIC) + COUNT.size
HEAD = struct.Struct("<II")
ENTRY = struct.Struct("<cI28sBBHB?ddddqqqqq")
MAX_BODY = 1 << 20
MAX_ENTRY = HEAD.size + ENTRY.size

Kind = Literal["intent", "checkpoint", "settle"]
_KINDS: dict[bytes, Kind] = {b"I": "intent", b"C": "checkpoint", b"S": "settle"}
LETTERS: dict[Kind, bytes] = {kind: letter for letter, kind in _KINDS.items()}
_NUMBERS = {outcome: number for number, outcome in enumerate(OUTCOMES)}
_FINAL, _TIMED = 1, 2  # flags
_PREFIX = "req_"
_ID_BYTES = 28  # of a request's id after its prefix
_NAMES = len(Line._fields)
_MALFORMED = (struct.error, LookupError, TypeError, ValueError)  # what values or bytes raise that do not fit the format


class Entry(NamedTuple):
    kind: Kind
    attempt: Attempt


class Torn(Exception):
    """What stands at `at` is no whole record: the end of what was written, or of what can be read."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


class Unfit(Exception):
    """A record that the format has no place for: a value out of its range, a name that is no text or too long."""


def framed(body: bytes) -> bytes:
    return HEAD.pack(len(body), zlib.crc32(body)) + body


def define(number: int, line: Line, label: Label) -> bytes:
    """The body of a D record; raises Unfit."""
    try:
        body = b"D" + number.to_bytes(4, "little") + orjson.dumps([*line, *label])
    except _MALFORMED as error:
        raise Unfit(f"a name is no text ({error})") from error
    if len(body) > MAX_BODY:
        raise Unfit(f"its names are longer than {MAX_BODY} bytes")
    return body


def entry(letter: bytes, number: int, attempt: Attempt) -> bytes:
    """The body of an I, C or S record; `number` is that of its line and label. Raises Unfit."""
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
    if len(request_id) != _ID_BYTES + 4 or not request_id.startswith(_PREFIX):
        raise Unfit(f"`{request_id:.64}` is no request's id")
    try:
        return ENTRY.pack(
            letter,
            number,
            request_id[4:].encode("ascii"),
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
    except _MALFORMED as error:
        raise Unfit(f"a value does not fit ({error})") from error


def reading(one: Reading) -> bytes:
    """The body of an R record; raises Unfit."""
    try:
        if not isfinite(one.at + one.kv_usage + one.engine_started):
            raise ValueError("not finite")
        body = b"R" + orjson.dumps([*one])
    except _MALFORMED as error:
        raise Unfit(f"a value does not fit ({error})") from error
    if len(body) > MAX_BODY:
        raise Unfit(f"its names are longer than {MAX_BODY} bytes")
    return body


def records(
    data: bytes | mmap.mmap, at: int, lines: dict[int, tuple[Line, Label]]
) -> Iterator[tuple[int, Entry | Reading | None]]:
    """What stands in a segment from `at` on: each record with where it ends; of a D record None, it goes to `lines`.

    Ends where zeros begin; raises Torn where something else stands that is no record.
    """
    size = len(data)
    if at < START:
        if data[: len(MAGIC)] != MAGIC:
            raise Torn(at)
        at = START
    while at + HEAD.size <= size:
        length, crc = HEAD.unpack_from(data, at)
        if not length and not crc:
            return
        end = at + HEAD.size + length
        if length > MAX_BODY or end > size:
            raise Torn(at)
        body = data[at + HEAD.size : end]  # a copy: what is checked is what is read, whatever is written meanwhile
        if zlib.crc32(body) != crc:
            raise Torn(at)
        try:
            found = _record(body, lines)
        except _MALFORMED as error:  # of another program, or of a later version of this one
            raise Torn(at) from error
        yield end, found
        at = end


def settled_before(data: bytes | mmap.mmap) -> int:
    """How many settlements the segments before this one hold."""
    return int(COUNT.unpack_from(data, len(MAGIC))[0]) if data[: len(MAGIC)] == MAGIC and len(data) >= START else 0


def is_blank(data: bytes | mmap.mmap, at: int) -> bool:
    """Whether nothing stands from `at` on."""
    rest = data[at:]
    return rest.count(0) == len(rest)


def is_cut_short(data: bytes | mmap.mmap, at: int) -> bool:
    """Whether what stands from `at` on, where a record would begin, can be one that a dying process did not finish, or
    nothing. What stands farther on was written after a record that is not to be read: that is damage."""
    length = HEAD.unpack_from(data, at)[0] if at + HEAD.size <= len(data) else 0
    return is_blank(data, at + max(MAX_ENTRY, HEAD.size + length if length <= MAX_BODY else 0))


def _record(body: bytes, lines: dict[int, tuple[Line, Label]]) -> Entry | Reading | None:
    letter = body[:1]
    if letter == b"D":
        names: list[Any] = orjson.loads(body[5:])
        lines[int.from_bytes(body[1:5], "little")] = Line(*names[:_NAMES]), Label(*names[_NAMES:])
        return None
    if letter == b"R":
        return Reading(*cast("list[Any]", orjson.loads(body[1:])))
    return _entry(body, lines)


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
