"""How a worker that is new, or back, comes to its whole share: its caches are empty and its kernels not warm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gateway.fleet.backend import FIRST_REQUESTS, Backend

RAMP_SECONDS = 10.0  # from its first request to its whole share
STEP_SECONDS = 0.2  # between two looks


def most_inflight(elapsed: float, busiest: int) -> int:
    """Requests it may hold `elapsed` seconds after it came up: a growing share of what the busiest of those that serve
    the same holds."""
    return max(FIRST_REQUESTS, math.ceil(elapsed / RAMP_SECONDS * busiest))


def step(groups: Iterable[Sequence[Backend]], now: float) -> None:
    """Sets the bound of each worker that is warming up. Each group serves the same, as no other does; where none of
    them is warm there is nobody who could take its share, and it takes all that comes."""
    for siblings in groups:
        for backend in siblings:
            if backend.cold_since:
                _warm(backend, siblings, now)


def _warm(backend: Backend, siblings: Sequence[Backend], now: float) -> None:
    elapsed = now - backend.cold_since
    warm = [one.inflight for one in siblings if one.up and not (one.cold_since or one.draining or one.silent)]
    if elapsed >= RAMP_SECONDS:
        backend.cold_since = 0.0
    backend.most_cold = most_inflight(elapsed, max(warm)) if warm and backend.cold_since else 0
    if backend.queue.waiting:
        backend.let_in(now)
