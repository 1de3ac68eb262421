"""Confidence intervals from resampling whole windows of text: tokens of one window depend on each other. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from workers.evaluation.result import Interval

RESAMPLES = 1000
CONFIDENCE = 0.95


def of_mean(sums: Sequence[float], counts: Sequence[int], seed: int) -> Interval:
    """Of a mean per token; `sums` and `counts` are by window. Percentile bootstrap, the same for the same seed."""
    return of(lambda total, tokens: total / tokens, sums, counts, seed)


def of(estimate: Callable[[float, int], float], sums: Sequence[float], counts: Sequence[int], seed: int) -> Interval:
    """Of what `estimate` makes of the sum over all windows and the number of their tokens."""
    random = Random(seed)
    windows = range(len(sums))
    drawn: list[float] = []
    for _ in range(RESAMPLES):
        chosen = random.choices(windows, k=len(sums))
        drawn.append(estimate(sum(sums[i] for i in chosen), sum(counts[i] for i in chosen)))
    drawn.sort()
    cut = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    value = estimate(sum(sums), sum(counts))
    # A skewed sample can put its own estimate outside the percentiles.
    return Interval(value=value, low=min(value, drawn[cut]), high=max(value, drawn[-cut - 1]))
