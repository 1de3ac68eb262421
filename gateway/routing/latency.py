"""How long a model takes to answer: percentiles of what was seen of late, for the moment at which to hedge."""

from __future__ import annotations

import math

SHORTEST = 0.001  # seconds: what is quicker counts as this
STEPS_PER_DOUBLING = 8  # buckets 9 % apart
BUCKETS = 20 * STEPS_PER_DOUBLING  # up to 1,000 s
FEWEST = 20  # observations below which there is no percentile
MEMORY = 1_000.0  # observations after which the old count half


class Latencies:
    """A histogram of logarithmic buckets whose old observations fade."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0.0] * BUCKETS
        self._total = 0.0

    def observe(self, seconds: float) -> None:
        at = int(math.log2(seconds / SHORTEST) * STEPS_PER_DOUBLING) if seconds > SHORTEST else 0
        self._counts[min(at, BUCKETS - 1)] += 1.0
        self._total += 1.0
        if self._total >= MEMORY:
            self._counts = [count / 2 for count in self._counts]
            self._total /= 2

    def percentile(self, percent: float) -> float | None:
        """The seconds that `percent` of the answers took at most (the bucket's upper bound); None while too few are
        known."""
        if self._total < FEWEST:
            return None
        wanted = self._total * percent / 100
        seen, at = 0.0, 0
        while seen < wanted and at < BUCKETS:
            seen += self._counts[at]
            at += 1
        return SHORTEST * 2 ** (at / STEPS_PER_DOUBLING)
