"""The routers of the field as rules: which worker, by what is seen of all, each by what its original looks at.

The cost-based ones count in seconds; `llm-d` and `sglang` are the defaults of those projects' cache-aware routers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from loadtests.simulate.sight import Sight

Rule = Callable[[Sight, Random], int]

PREFIX_WEIGHT, QUEUE_WEIGHT = 3.0, 2.0  # llm-d's
MATCH_THRESHOLD = 0.5  # of a prompt, above which SGLang's router prefers the longest match
IMBALANCE, IMBALANCE_RATIO = 64, 1.5  # requests, and times as many, at which it looks at the load alone
OWN_WEIGHT = 2.0  # 1 + λ: what a second of own prefill counts beside one of waiting


def least(sight: Sight, cost: Sequence[float], dice: Random) -> int:
    """Of those that cost the same one by chance."""
    able = sight.able
    lowest = min(cost[i] for i in able)
    tied = [i for i in able if cost[i] <= lowest]
    return tied[0] if len(tied) == 1 else dice.choice(tied)


def at_random(sight: Sight, dice: Random) -> int:
    return dice.choice(sight.able)


class RoundRobin:
    def __init__(self) -> None:
        self._next = 0

    def __call__(self, sight: Sight, dice: Random) -> int:
        count = len(sight.matched)
        chosen = min(sight.able, key=lambda i: (i - self._next) % count)
        self._next = chosen + 1
        return chosen


def least_pending(sight: Sight, dice: Random) -> int:
    return least(sight, [tokens / rate for tokens, rate in zip(sight.pending, sight.rates, strict=True)], dice)


def longest_prefix(sight: Sight, dice: Random) -> int:
    return least(sight, [-count for count in sight.matched], dice)


def sglang(sight: Sight, dice: Random) -> int:
    """The cache-aware policy of SGLang's router: the fewest requests when out of balance or when little of the prompt
    is known anywhere, otherwise the longest match."""
    load = [sight.inflight[i] for i in sight.able]
    if max(load) - min(load) > IMBALANCE and max(load) > IMBALANCE_RATIO * min(load):
        return least(sight, sight.inflight, dice)
    longest = max(sight.matched[i] for i in sight.able)
    if longest > MATCH_THRESHOLD * sight.blocks:
        return longest_prefix(sight, dice)
    return least(sight, sight.inflight, dice)


def llm_d(sight: Sight, dice: Random) -> int:
    """3 × the part of the prompt that is cached + 2 × how short the queue is between the shortest and the longest."""
    queues = [sight.queued[i] for i in sight.able]
    shortest = min(queues)
    span = (max(queues) - shortest) or 1
    blocks = sight.blocks or 1
    cost = [
        QUEUE_WEIGHT * (queued - shortest) / span - PREFIX_WEIGHT * matched / blocks
        for queued, matched in zip(sight.queued, sight.matched, strict=True)
    ]
    return least(sight, cost, dice)


def dynamo(sight: Sight, dice: Random) -> int:
    """(pending + own uncached) × (queue + 1)."""
    cost = [
        (pending + own) * (queued + 1)
        for pending, own, queued in zip(sight.pending, sight.uncached, sight.queued, strict=True)
    ]
    return least(sight, cost, dice)


def seconds(sight: Sight, dice: Random) -> int:
    """Predicted seconds to the first token."""
    return _weighted(sight, 1.0, dice)


def weighted_seconds(sight: Sight, dice: Random) -> int:
    """The same, own prefill counted twice: it is also what the next ones wait for."""
    return _weighted(sight, OWN_WEIGHT, dice)


def _weighted(sight: Sight, own: float, dice: Random) -> int:
    cost = [
        (pending + own * uncached) / rate
        for pending, uncached, rate in zip(sight.pending, sight.uncached, sight.rates, strict=True)
    ]
    return least(sight, cost, dice)


RULES: Mapping[str, Callable[[], Rule]] = {
    "random": lambda: at_random,
    "round-robin": RoundRobin,
    "least-pending": lambda: least_pending,
    "longest-prefix": lambda: longest_prefix,
    "sglang": lambda: sglang,
    "llm-d": lambda: llm_d,
    "dynamo": lambda: dynamo,
    "seconds": lambda: seconds,
    "seconds-weighted": lambda: weighted_seconds,
}
