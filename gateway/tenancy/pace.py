"""How fast requests, tokens and money are taken: what a process would like to hold ahead. Times are milliseconds."""

from __future__ import annotations

from typing import Final

LEARNING: Final = 500  # milliseconds over which a pace is learnt
LEAST: Final = 20  # milliseconds below which it is not learnt anew


class Pace:
    """How fast an amount is taken, in units per millisecond."""

    __slots__ = ("_idle", "_pace", "_since", "_taken")

    def __init__(self) -> None:
        self._idle = 0
        self._pace = 0.0
        self._since = 0
        self._taken = 0

    def take(self, amount: int) -> None:
        self._taken += amount

    def ahead(self, horizon: int, now: int) -> int:
        """What is to be expected within `horizon`, by what was taken of late; nothing when nothing was for as long."""
        elapsed = now - self._since
        if elapsed >= LEAST:
            self._idle = 0 if self._taken else self._idle + elapsed
            weight = elapsed / LEARNING
            self._pace += (weight if weight < 1.0 else 1.0) * (self._taken / elapsed - self._pace)
            self._taken, self._since = 0, now
        elif elapsed < 0:  # the clock was set back
            self._since = now
        if self._idle >= horizon:
            self._pace = 0.0
        return int(self._pace * horizon)
