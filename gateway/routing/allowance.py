"""How much of the traffic may be second attempts: without a bound, retries turn a slow pool into a dead one."""

from __future__ import annotations


class Allowance:
    """Each request deposits a share of a second attempt, each second attempt takes a whole one.

    `start` is there from the beginning, so that a quiet gateway can still fail over; with 0 the share is kept from the
    first request on. Never more than `cap` are saved up.
    """

    __slots__ = ("_cap", "_saved")

    def __init__(self, *, start: float, cap: float) -> None:
        self._saved = start
        self._cap = cap

    def deposit(self, share: float) -> None:
        """Called once for every request."""
        self._saved = min(self._cap, self._saved + share)

    def take(self) -> bool:
        """Whether one more attempt may be made now."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
