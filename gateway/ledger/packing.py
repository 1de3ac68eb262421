"""A batch as bytes, for the way to whoever writes it. No IO.

    TGB1  <u32 CRC-32 of the rest>  JSON [source, number, names, attempts, readings]

Names are lines with their labels, which attempts name by their place in the list. An attempt of one choice does not say
so: such rows are those of versions that knew of no others.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple, cast

import orjson

from gateway.ledger.record import OUTCOMES, Attempt, Label, Line, Reading
from gateway.ledger.store import Batch
from gateway.ledger.text import keepable

MAGIC = b"TGB1"
MAX_BYTES = 64 << 20
_HEAD = len(MAGIC) + 4
_LINE, _ROW = len(Line._fields), len(Attempt._fields) - 2  # a row has one name instead of line and label
_OUTCOMES = frozenset(OUTCOMES)


class Unreadable(Exception):
    """The bytes are no batch that this version knows."""


class Packed(NamedTuple):
    """A batch of those that one source has made, by its number: 1, 2, ..."""

    source: str
    number: int
    batch: Batch


def pack(source: str, number: int, batch: Batch) -> bytes:
    """Raises TypeError or ValueError for a value that can not be written."""
    places: dict[tuple[Line, Label], int] = {}
    rows: list[tuple[object, ...]] = []
    for attempt in batch.attempts:
        key = attempt[3:5]
        place = places.get(key)
        if place is None:
            place = places[key] = len(places)
        rows.append((*attempt[:3], place, *(attempt[5:-1] if attempt[-1] == 1 else attempt[5:])))
    names = [(*line, *map(keepable, label)) for line, label in places]
    body = orjson.dumps([source, number, names, rows, [tuple(reading) for reading in batch.readings]])
    if len(body) > MAX_BYTES:
        raise ValueError(f"a batch of {len(body)} bytes")
    return b"".join((MAGIC, zlib.crc32(body).to_bytes(4, "little"), body))


def unpack(data: bytes) -> Packed:
    """Raises Unreadable."""
    if data[: len(MAGIC)] != MAGIC:
        raise Unreadable("it begins like no batch of this version")
    body = data[_HEAD:]
    if len(body) > MAX_BYTES:
        raise Unreadable(f"it has {len(body)} bytes")
    if zlib.crc32(body) != int.from_bytes(data[len(MAGIC) : _HEAD], "little"):
        raise Unreadable("its checksum is another")
    try:
        source, number, names, rows, readings = cast("list[Any]", orjson.loads(body))
        lines = [_names(*name) for name in names]
        batch = Batch([_attempt(row, lines) for row in rows], [Reading(*reading) for reading in readings])
        return Packed(_checked(source, str), _checked(number, int), batch)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise Unreadable(f"it holds something else than attempts: {error}") from error


def _names(*written: str) -> tuple[Line, Label]:
    names = [_checked(name, str) for name in written]
    return Line(*names[:_LINE]), Label(*names[_LINE:])


def _attempt(row: list[Any], lines: list[tuple[Line, Label]]) -> Attempt:
    if len(row) not in (_ROW, _ROW + 1):
        raise ValueError(f"a row of {len(row)} fields")
    attempt = Attempt(*row[:3], *lines[row[3]], *row[4:])
    if attempt.outcome not in _OUTCOMES:
        raise ValueError("an unknown outcome")
    return attempt


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"a {type(value).__name__}")
    return value
