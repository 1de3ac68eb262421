"""The sums of attempts by hour, line and outcome: what reports and budgets read instead of every row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gateway.ledger.record import Attempt, Line, Outcome

HOUR = 3600


class Rollup(NamedTuple):
    """`hour` is its first second, Unix time. Corrections add their differences, and no request or attempt."""

    hour: int
    line: Line
    outcome: Outcome
    requests: int
    attempts: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    gpu_ns: int
    cost_nanousd: int


def sums_of(attempts: Iterable[Attempt]) -> list[Rollup]:
    """What a batch adds, one rollup per hour, line and outcome, in an order that every writer keeps (so that two of
    them do not wait for each other in a circle)."""
    sums: dict[tuple[int, Line, Outcome], list[int]] = {}
    for attempt in attempts:
        key = int(attempt.started_at // HOUR) * HOUR, attempt.line, attempt.outcome
        sum_ = sums.get(key)
        if sum_ is None:
            sum_ = sums[key] = [0] * 7
        if not attempt.correction:
            sum_[0] += attempt.final
            sum_[1] += 1
        sum_[2] += attempt.prompt_tokens
        sum_[3] += attempt.cached_tokens
        sum_[4] += attempt.output_tokens
        sum_[5] += attempt.gpu_ns
        sum_[6] += attempt.cost_nanousd
    return [Rollup(*key, *sums[key]) for key in sorted(sums)]
