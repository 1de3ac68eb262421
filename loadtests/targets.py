"""What has to hold, and the verdict on it: missed only when the noise of the measurement can not explain it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from loadtests.stats import Spread, ratios

Values = Mapping[tuple[str, str, str], Sequence[float]]  # (figure, number, target) -> one value per repetition
Outcome = Literal["met", "within noise", "missed", "not measured"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on one number of the gateway, or on its ratio to a peer's."""

    figure: str
    number: str
    sign: Literal["≥", "≤"]
    bound: float
    against: str | None = None  # a peer: the bound is on ours divided by its
    of: str = "tollgate"


@dataclass(frozen=True, slots=True)
class Verdict:
    goal: Goal
    spread: Spread
    outcome: Outcome


GOALS = (
    Goal("throughput", "requests_per_second", "≥", 8000),
    Goal("throughput", "requests_per_second", "≥", 0.5, against="vllm-router"),
    Goal("paced", "cpu_per_event", "≤", 30),
    Goal("idle", "memory_growth", "≤", 60),
)


def judge(goal: Goal, values: Values) -> Verdict:
    """Met when the median keeps the bound; missed when not even the best repetition does."""
    measured = values.get((goal.figure, goal.number, goal.of), ())
    if goal.against is not None:
        measured = ratios(measured, values.get((goal.figure, goal.number, goal.against), ()))
    spread = Spread.of(measured)
    if math.isnan(spread.median):
        return Verdict(goal, spread, "not measured")
    at_least = goal.sign == "≥"
    best = spread.high if at_least else spread.low

    def keeps(value: float) -> bool:
        return value >= goal.bound if at_least else value <= goal.bound

    outcome: Outcome = "met" if keeps(spread.median) else "within noise" if keeps(best) else "missed"
    return Verdict(goal, spread, outcome)
