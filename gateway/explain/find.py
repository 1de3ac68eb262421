"""Finds what a gateway of this machine remembers of a request: a search through the rings of a directory, in pieces, so
that neither memory nor another thread's turn depends on their size."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import orjson

from gateway.errors import BadRequest, NotFound
from gateway.explain.record import FIRST, Document, Schema, document
from gateway.explain.ring import (
    HEADER_BYTES,
    LENGTH,
    MAGIC,
    MARK,
    MAX_PAYLOAD_BYTES,
    POSITION,
    POSITION_AT,
    RECORD,
    RECORD_BYTES,
    SCHEMA_AT,
    SUFFIX,
)

PIECE_BYTES = 1024 * 1024
_PREFIX, _DIGITS, _TIME_DIGITS = "req_", 28, 12
_EARLY_SECONDS = 5.0  # by which clocks of processes may differ


def find(directory: Path | None, request_id: str) -> Document:
    """What became of a request. Raises `BadRequest` for what is no id, and `NotFound` with what may have happened.

    `directory` is None where nothing is kept. It reads files; `OSError` is theirs.
    """
    made = _made_at(request_id)
    if directory is None:
        raise NotFound(
            "This gateway keeps no decisions: `decisions.keep_mb` is 0, or `ledger` is none. "
            "Those made after it is changed and the gateway started again can be explained.",
            code="decision_not_found",
        )
    oldest = float("inf")
    for path in _rings(directory):
        with path.open("rb", buffering=0) as file:
            descriptor = file.fileno()
            schema = _schema(descriptor)
            if schema is None:
                continue
            for payload in _records_with(descriptor, FIRST % request_id.encode()):
                return document(orjson.loads(payload), schema)
            oldest = min(oldest, _oldest(descriptor, schema))
    raise NotFound(_why_not(request_id, made, oldest, directory), code="decision_not_found")


def _made_at(request_id: str) -> float:
    """Unix seconds, from the id."""
    digits = request_id.removeprefix(_PREFIX)
    if (
        not request_id.startswith(_PREFIX)
        or len(digits) != _DIGITS
        or not digits.isascii()
        or set(digits) - set("0123456789abcdef")
    ):
        raise BadRequest(
            f"`{request_id[:80]}` is no request id: write the `x-request-id` of an answer, `req_` and {_DIGITS} "
            "digits of 0-9 and a-f.",
            param="id",
        )
    return int(digits[:_TIME_DIGITS], 16) / 1000


def _rings(directory: Path) -> list[Path]:
    """None where no gateway has begun to keep any; what is no directory, or may not be read, is an `OSError`."""
    try:
        return sorted(directory / name for name in os.listdir(directory) if name.endswith(SUFFIX))
    except FileNotFoundError:
        return []


def _schema(file: int) -> Schema | None:
    """None for a file that is no ring, or not yet one."""
    head = os.pread(file, HEADER_BYTES, 0)
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
        return None
    (length,) = LENGTH.unpack_from(head, SCHEMA_AT)
    at = SCHEMA_AT + LENGTH.size
    try:
        return cast("Schema", orjson.loads(head[at : at + length]))
    except orjson.JSONDecodeError:
        return None


def _records_with(file: int, start: bytes) -> Iterator[bytes]:
    """Payloads that begin so."""
    for at in _occurrences(file, start, HEADER_BYTES):
        payload = _payload(file, at - RECORD_BYTES)
        if payload is not None:
            yield payload


def _occurrences(file: int, what: bytes, at: int) -> Iterator[int]:
    """Where in the file it stands, from `at` on."""
    overlap = len(what) - 1
    while piece := os.pread(file, PIECE_BYTES + overlap, at):
        found = piece.find(what)
        while found >= 0:
            yield at + found
            found = piece.find(what, found + 1)
        at += PIECE_BYTES


def _payload(file: int, at: int) -> bytes | None:
    """Of the record there; None where there is no whole one."""
    if at < HEADER_BYTES:
        return None
    head = os.pread(file, RECORD_BYTES, at)
    if len(head) < RECORD_BYTES:
        return None
    mark, length, checksum = RECORD.unpack(head)
    if mark != MARK or length > MAX_PAYLOAD_BYTES:
        return None
    payload = os.pread(file, length, at + RECORD_BYTES)
    return payload if len(payload) == length and zlib.crc32(payload) == checksum else None


def _oldest(file: int, schema: Schema) -> float:
    """Unix seconds of the oldest record: the first after the place where the next will be written, or in the file."""
    (position,) = POSITION.unpack(os.pread(file, POSITION.size, POSITION_AT))
    for start in (max(position, HEADER_BYTES), HEADER_BYTES):
        for at in _occurrences(file, MARK, start):
            payload = _payload(file, at)
            if payload is not None:
                values: list[Any] = orjson.loads(payload)
                return values[schema["record"].index("started_ms")] / 1000
    return float("inf")


def _why_not(request_id: str, made: float, oldest: float, directory: Path) -> str:
    where = f"No decision of `{request_id}` is kept in {directory}"
    if made > time.time() + _EARLY_SECONDS:
        return f"{where}: its time, {_spell(made)}, has not come yet, so this gateway did not make it."
    if oldest == float("inf"):
        return f"{where}: no request has ended yet there. Another machine's gateway keeps its own."
    if made < oldest:
        return (
            f"{where}: it is of {_spell(made)}, and what is kept there begins at {_spell(oldest)}. "
            "`decisions.keep_mb` says how much that is. If another machine's gateway took it, ask there."
        )
    return (
        f"{where}, though it is recent ({_spell(made)}). It is still under way, or was to the admin API, or another "
        "machine's gateway took it, or the gateway was killed before it ended."
    )


def _spell(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except ValueError:  # the digits of an id can name a year of five digits
        return "after the year 9999"
