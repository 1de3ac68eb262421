"""The bytes of a journal. No IO.

A segment is a magic word, how many settlements the segments before it hold (u64), then records, then zeros. A record is
`<u32 length><u32 CRC-32 of the body><body>`, and a body begins with its kind:

    D  <u32 number> JSON      a line and a label, which entries of this segment name by number
    B  beginning              the intent: an attempt is about to be made; as much of it as is known
    I  entry                  the same, with more known
    C  entry                  a checkpoint: what it would come to if it ended now
    S  entry                  the settlement: what it came to
    R  JSON                   a reading of a worker

A B, I, C or S record of an attempt that asks for several choices ends with how many (u16).
A segment's entries refer to D records of the same segment, so each is read without the others.

What a reader takes is always a beginning of what was written: it stops where the sum is wrong, whatever stands there.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from math import isfinite
from typing import Any, Final, Literal, NamedTuple, cast, final

import orjson

from gateway.ledger.record import OUTCOMES, Attempt, Label, Line, Outcome, Reading

MAGIC = b"TOLLGATE-JOURNAL 1\n"
COUNT = struct.Struct("<Q")
START = len(MAGIC) + COUNT.size
HEAD = struct.Struct("<II")
ENTRY = struct.Struct("<cI28sBBHB?ddddqqqqq")
BEGINNING = struct.Struct("<cI28sBddqq")
CHOICES = struct.Struct("<H")
MAX_BODY = 1 << 20
MAX_ENTRY = HEAD.size + ENTRY.size + CHOICES.size

Kind = Literal["intent", "checkpoint", "settle"]
LETTERS: dict[Kind, bytes] = {"intent": b"I", "checkpoint": b"C", "settle": b"S"}
_KINDS: dict[bytes, Kind] = {b"B": "intent", **{letter: kind for kind, letter in LETTERS.items()}}
_B, _C, _D, _I, _R, _S = b"BCDIRS"
_NUMBERS: Final = {outcome: number for number, outcome in enumerate(OUTCOMES)}
_FINAL: Final = 1  # flags
_TIMED: Final = 2
_PREFIX = "req_"
_PREFIX_BYTES: Final = b"req_"
_ID_BYTES: Final = 32  # of a request's id with its prefix
_NAMES = len(Line._fields)
_AT_ID, _AT_NUMBER, _AT_FLAGS = 5, 33, 37  # where they stand in an entry, the first two in a beginning too
_ENTRY_SIZE: Final = ENTRY.size
_BEGINNING_SIZE: Final = BEGINNING.size
_HEAD_SIZE: Final = HEAD.size
_CHOICES_SIZE: Final = CHOICES.size
_OUTCOMES: Final = len(OUTCOMES)
# Bound once: every request makes two records.
_crc32: Final = zlib.crc32
_pack_entry: Final = ENTRY.pack
_pack_beginning: Final = BEGINNING.pack
_put_entry: Final = struct.Struct(f"<II{ENTRY.size}s").pack_into  # a whole record
_put_beginning: Final = struct.Struct(f"<II{BEGINNING.size}s").pack_into
_MALFORMED = (struct.error, LookupError, TypeError, ValueError)  # what values or bytes raise that do not fit the format


Lines = dict[int, tuple[Line, Label]]  # those of one segment, by their numbers


class Entry(NamedTuple):
    kind: Kind
    attempt: Attempt


@final
class Said:
    """A B, I, C or S record, read no farther than it must be: of most attempts only the settlement is."""

    __slots__ = ("_body", "_lines", "is_end")

    def __init__(self, body: bytes, lines: Lines) -> None:
        """Raises LookupError or ValueError where the body is no such record; nothing else here raises."""
        letter = body[0]
        size = _BEGINNING_SIZE if letter == _B else _ENTRY_SIZE
        if (len(body) != size and _choices(body, size) < 2) or (
            letter != _B and letter != _S and letter != _I and letter != _C
        ):
            raise ValueError("no record")
        if not body[_AT_ID:_AT_NUMBER].isascii() or (letter != _B and body[_AT_FLAGS] >> 4 >= _OUTCOMES):
            raise ValueError("no record")
        if int.from_bytes(body[1:_AT_ID], "little") not in lines:
            raise LookupError("its line was never named")
        self._body = body
        self._lines = lines
        self.is_end = letter == _S

    @property
    def key(self) -> bytes:
        """The same for all records of one attempt: its request and its number."""
        return self._body[_AT_ID : _AT_NUMBER + 1]

    def attempt(self) -> Attempt:
        body = self._body
        return _beginning(body, self._lines) if body[0] == _B else _attempt(body, self._lines)

    def entry(self) -> Entry:
        return Entry(_KINDS[self._body[:1]], self.attempt())


class Torn(Exception):
    """What stands at `at` is no whole record: the end of what was written, or of what can be read."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


class Unfit(Exception):
    """A record that the format has no place for: a value out of its range, a name that is no text or too long."""


def framed(body: bytes) -> bytes:
    return HEAD.pack(len(body), zlib.crc32(body)) + body


def put(segment: mmap.mmap, at: int, body: bytes) -> None:
    """Writes a record where there is room for it: `framed`, those of a request in half the time."""
    size = len(body)
    if size == _ENTRY_SIZE:
        _put_entry(segment, at, size, _crc32(body), body)
    elif size == _BEGINNING_SIZE:
        _put_beginning(segment, at, size, _crc32(body), body)
    else:
        segment[at : at + _HEAD_SIZE + size] = framed(body)


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
    return entry_of(
        letter,
        number,
        attempt.request_id,
        attempt.number,
        attempt.correction,
        attempt.started_at,
        attempt.opened_at,
        attempt.ttft_seconds,
        attempt.duration_seconds,
        attempt.outcome,
        attempt.status,
        attempt.estimated,
        attempt.final,
        attempt.prompt_tokens,
        attempt.cached_tokens,
        attempt.output_tokens,
        attempt.gpu_ns,
        attempt.cost_nanousd,
        attempt.choices,
    )


def entry_of(
    letter: bytes,
    number: int,
    request_id: str,
    attempt_number: int,
    correction: int,
    started_at: float,
    opened_at: float,
    ttft: float | None,
    duration: float,
    outcome: Outcome,
    status: int,
    estimated: bool,
    final: bool,
    prompt: int,
    cached: int,
    output: int,
    gpu_ns: int,
    cost: int,
    choices: int,
) -> bytes:
    """`entry` of an attempt of which no row was made."""
    try:
        body = _pack_entry(
            letter,
            number,
            _digits(request_id),
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
        return body if choices == 1 else body + _several(choices)
    except _MALFORMED as error:
        raise Unfit(f"a value does not fit ({error})") from error


def beginning(
    number: int,
    request_id: str,
    attempt_number: int,
    started_at: float,
    opened_at: float,
    prompt_tokens: int,
    cost_nanousd: int,
    choices: int,
) -> bytes:
    """The body of a B record: the intent of an attempt of which no more is known. Raises Unfit."""
    try:
        body = _pack_beginning(
            b"B",
            number,
            _digits(request_id),
            attempt_number,
            started_at,
            opened_at,
            prompt_tokens,
            cost_nanousd,
        )
        return body if choices == 1 else body + _several(choices)
    except _MALFORMED as error:
        raise Unfit(f"a value does not fit ({error})") from error


def _digits(request_id: str) -> bytes:
    """An id without its prefix."""
    whole = request_id.encode("ascii")
    if len(whole) != _ID_BYTES or not whole.startswith(_PREFIX_BYTES):
        raise Unfit(f"`{request_id:.64}` is no request's id")
    return whole[4:]


def renumbered(body: bytes, number: int) -> bytes:
    """The same with the number that its line and label have in another segment."""
    return body[:1] + number.to_bytes(4, "little") + body[_AT_ID:]


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


def record_at(data: bytes | mmap.mmap, at: int) -> bytes | None:
    """The body of the record that stands in a segment at `at`, which is START or where another one ends; None where
    zeros begin or the segment ends.

    Raises Torn where something else stands that is no record.
    """
    size = len(data)
    if at + _HEAD_SIZE > size:
        return None
    length, crc = HEAD.unpack_from(data, at)
    if not length and not crc:
        return None
    end = at + _HEAD_SIZE + length
    if length > MAX_BODY or end > size:
        raise Torn(at)
    body = data[at + _HEAD_SIZE : end]  # a copy: what is checked is what is read, whatever is written meanwhile
    if zlib.crc32(body) != crc:
        raise Torn(at)
    return body


def is_segment(data: bytes | mmap.mmap) -> bool:
    return data[: len(MAGIC)] == MAGIC


def parse(body: bytes, lines: Lines) -> Said | Reading | None:
    """What a record holds; of a D record None, it goes to `lines`.

    Raises ValueError where it is of another program, or of a later version of this one.
    """
    try:
        letter = body[0]
        if letter == _D:
            names: list[Any] = orjson.loads(body[5:])
            lines[int.from_bytes(body[1:5], "little")] = Line(*names[:_NAMES]), Label(*names[_NAMES:])
            return None
        if letter == _R:
            return Reading(*cast("list[Any]", orjson.loads(body[1:])))
        return Said(body, lines)
    except _MALFORMED as error:
        raise ValueError("no record") from error


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


def _attempt(body: bytes, lines: Lines) -> Attempt:
    (
        _,
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
    ) = ENTRY.unpack_from(body)
    line, label = lines[line_number]
    return Attempt(
        _PREFIX + request_id.decode("ascii"),
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
        _choices(body, _ENTRY_SIZE),
    )


def _beginning(body: bytes, lines: Lines) -> Attempt:
    _, line_number, request_id, number, started_at, opened_at, prompt, cost = BEGINNING.unpack_from(body)
    line, label = lines[line_number]
    return Attempt(
        _PREFIX + request_id.decode("ascii"),
        number,
        0,
        line,
        label,
        started_at,
        opened_at,
        None,
        0.0,
        "crashed",
        0,
        True,
        True,
        prompt,
        0,
        0,
        0,
        cost,
        _choices(body, _BEGINNING_SIZE),
    )


def _several(choices: int) -> bytes:
    if choices < 1:
        raise ValueError("no choices")
    return CHOICES.pack(choices)


def _choices(body: bytes, at: int) -> int:
    """What a body ends with after `at` bytes; 0 where that is no number."""
    if len(body) == at:
        return 1
    return int.from_bytes(body[at:], "little") if len(body) == at + _CHOICES_SIZE else 0
