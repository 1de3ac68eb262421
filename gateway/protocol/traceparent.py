"""The `traceparent` header of W3C Trace Context, version 00: who caused this request."""

from __future__ import annotations

import re
from typing import NamedTuple

_FORM = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class TraceParent(NamedTuple):
    trace_id: int
    span_id: int
    flags: int


def read_traceparent(header: bytes | None) -> TraceParent | None:
    """None when there is no header or it is not one to trust, as the specification asks."""
    match = _FORM.fullmatch(header) if header else None
    if match is None:
        return None
    parent = TraceParent(*(int(part, 16) for part in match.groups()))
    return parent if parent.trace_id and parent.span_id else None
