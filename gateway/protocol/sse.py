"""Server-sent events, as far as a relay must understand them.

Framing follows the WHATWG HTML standard, section 9.2: lines end with LF, CRLF or CR, an empty line ends an event, a
line that starts with a colon is a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# An empty line: a line end right after another, or at the start, where the event before has just ended. An LF after a
# CR is the second half of one line end.
_EMPTY_LINE = re.compile(rb"(?:\A|(?<=[\r\n]))\r\n?|(?:\A|(?<=\n))\n")


class Event(NamedTuple):
    """One event: its bytes as they came (empty line included), its type ("" when unnamed) and its joined data."""

    raw: bytes
    type: str
    data: bytes


def boundary(data: bytes) -> int:
    """The index just after the last complete event of `data`, which starts where an event does; 0 when there is none.

    A trailing CR may be half of a CRLF whose LF is still on its way, so it completes nothing until a byte follows.
    """
    if data.endswith(b"\n\n"):
        return len(data)
    if b"\r" not in data:
        end = data.rfind(b"\n\n") + 2
        return end if end > 1 else int(data.startswith(b"\n"))
    if data.endswith(b"\r\n\r\n"):
        return len(data)
    end = 0
    for match in _EMPTY_LINE.finditer(data):
        if match.end() == len(data) and data.endswith(b"\r"):
            break
        end = match.end()
    return end


def split(data: bytes) -> list[Event]:
    """The events of a run of complete events."""
    events: list[Event] = []
    start = 0
    for end in _ends(data):
        events.append(_parse(data[start:end]))
        start = end
    return events


def count(data: bytes) -> int:
    """How many data lines a run of complete events has: one for each event an engine sends, none for comments."""
    lines = data.count(b"\ndata:") + data.startswith(b"data:")
    return lines + data.count(b"\rdata:") if b"\r" in data else lines


def _ends(data: bytes) -> Iterator[int]:
    if b"\r" in data:
        for match in _EMPTY_LINE.finditer(data):
            yield match.end()
        return
    end = 0
    while end < len(data):  # several times as fast as the expression, and nearly every stream is like this
        end = end + 1 if data.startswith(b"\n", end) else data.index(b"\n\n", end) + 2
        yield end


def _parse(raw: bytes) -> Event:
    kind = ""
    parts: list[bytes] = []
    for line in raw.splitlines():
        name, _, value = line.partition(b":")
        if name == b"data":
            parts.append(value.removeprefix(b" "))
        elif name == b"event":
            kind = value.removeprefix(b" ").decode("utf-8", "replace")
    return Event(raw, kind, b"\n".join(parts))
