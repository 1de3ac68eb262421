"""Server-sent events, as far as a relay must understand them.

Framing follows the WHATWG HTML standard, section 9.2.5: lines end with LF, CRLF or CR, a blank line ends an event, a
line that starts with a colon is a comment.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
_LINE = re.compile(rb"\r\n|\n|\r")


class Event(NamedTuple):
    """One event: its bytes as they came (blank line included), its type ("" when unnamed) and its joined data."""

    raw: bytes
    type: str
    data: bytes


def boundary(data: bytes) -> int:
    """The index just after the last complete event of `data`; 0 when no event is complete.

    A trailing CR may be half of a CRLF whose LF is still on its way, so an event is only complete at a CR CR when
    another byte follows.
    """
    if data.endswith(b"\n\n"):
        return len(data)
    if b"\r" not in data:
        return data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
    end = 0
    for match in _BLANK_LINE.finditer(data):
        if match.end() == len(data) and data.endswith(b"\r"):
            break
        end = match.end()
    return end


def split(data: bytes) -> list[Event]:
    """The events of a run of complete events."""
    events: list[Event] = []
    start = 0
    for match in _BLANK_LINE.finditer(data):
        events.append(_parse(data[start : match.end()]))
        start = match.end()
    if start < len(data):
        events.append(_parse(data[start:]))
    return events


def _parse(raw: bytes) -> Event:
    kind = ""
    parts: list[bytes] = []
    for line in _LINE.split(raw):
        if line.startswith(b"data:"):
            value = line[5:]
            parts.append(value[1:] if value.startswith(b" ") else value)
        elif line.startswith(b"event:"):
            kind = line[6:].strip().decode("utf-8", "replace")
    return Event(raw, kind, b"\n".join(parts))
