"""The `x-ratelimit-*` response headers, in OpenAI's spelling."""

from __future__ import annotations

import functools


def triple(kind: bytes, limit: int, remaining: int, reset: int) -> list[bytes]:
    """Header lines: limit, what is left of it, and the milliseconds until all of it is back; `kind` is `requests` or
    `tokens`."""
    return [
        _limit(kind, limit),
        b"x-ratelimit-remaining-%b: %d" % (kind, remaining),
        b"x-ratelimit-reset-%b: %b" % (kind, duration(reset)),
    ]


@functools.lru_cache(maxsize=4096)
def _limit(kind: bytes, limit: int) -> bytes:
    return b"x-ratelimit-limit-%b: %d" % (kind, limit)


def duration(milliseconds: int) -> bytes:
    """As `120ms`, `1s`, `8.64s` or `6m0s`."""
    if milliseconds <= 0:
        return b"0s"
    if milliseconds < 1_000:
        return b"%dms" % milliseconds
    minutes, milliseconds = divmod(milliseconds, 60_000)
    if minutes:
        return b"%dm%gs" % (minutes, milliseconds / 1_000)
    return b"%gs" % (milliseconds / 1_000)
