"""Requests per minute: the generic cell rate algorithm, in integer nanoseconds.

The whole state is one number, the theoretical arrival time (TAT): when the next request would arrive had those let in
so far come evenly spaced. A request conforms while the TAT runs at most a minute ahead of the clock, so an idle tenant
may send its whole minute at once and then one request per interval. In a span of s nanoseconds at most
`per_minute + s // interval` requests conform.
"""

from __future__ import annotations

import functools

MINUTE = 60_000_000_000


@functools.lru_cache(maxsize=4096)
def interval(per_minute: int) -> int:
    """Nanoseconds between evenly spaced requests, rounded up so that the rate is never above the limit."""
    return -(-MINUTE // per_minute)


def wait(tat: int, per_minute: int, now: int) -> int:
    """Nanoseconds until one more request conforms; 0 when it does now."""
    step = interval(per_minute)
    ahead = tat - now - step * (per_minute - 1)
    if ahead <= 0:
        return 0
    return ahead if ahead < step else step  # more is a clock that was set back, or a changed limit


def advance(tat: int, per_minute: int, now: int) -> int:
    """The TAT after one more request."""
    step = interval(per_minute)
    return (_bounded(tat, step * per_minute, now) if tat > now else now) + step


def remaining(tat: int, per_minute: int, now: int) -> int:
    """How many requests conform right now."""
    if tat <= now:
        return per_minute
    step = interval(per_minute)
    return per_minute - -(-(_bounded(tat, step * per_minute, now) - now) // step)


def _bounded(tat: int, burst: int, now: int) -> int:
    """The TAT brought within [now, now + burst]. Above it lies only a clock that was set back, or a changed limit."""
    if tat < now:
        return now
    limit = now + burst
    return tat if tat < limit else limit
