"""How much of the traffic may be second attempts: without a bound, retries turn a slow pool into a dead one."""

from __future__ import annotations

MIN_TOKENS = 10.0  # so that a quiet gateway can still fail over


class RetryBudget:
    """Each request deposits `share` of a retry, each retry takes one; never more than `cap` of them are saved up."""

    __slots__ = ("_cap", "_tokens")

    def __init__(self, cap: float = 100.0) -> None:
        self._cap = cap
        self._tokens = MIN_TOKENS

    def deposit(self, share: float) -> None:
        """Called once for every request."""
        self._tokens = min(self._cap, self._tokens + share)

    def take(self) -> bool:
        """Whether one more attempt may be made now."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
