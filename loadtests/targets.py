"""What has to hold, and the verdict on it: missed only when the noise of the measurement can not explain it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from loadtests.stats import Spread, differences, ratios

Values = Mapping[tuple[str, str, str], Sequence[float]]  # (figure, number, target) -> one value per repetition
OURS = "tollgate"
Outcome = Literal["met", "within noise", "missed", "not measured"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on one number of the gateway, on its ratio to a peer's, or on what it adds to a peer's."""

    figure: str
    number: str
    sign: Literal["≥", "≤"]
    bound: float
    unit: str = ""
    times: str | None = None  # a peer: the bound is on ours divided by its
    over: str | None = None  # a peer: the bound is on ours minus its
    of: str = OURS
    aim: float | None = None  # better than the bound: shown beside it, not judged
    cores: int = 1  # on a machine with fewer it can not be judged

    @property
    def text(self) -> str:
        what = f" × {self.times}" if self.times else f" {self.unit}" if self.unit else ""
        over = f" over {self.over}" if self.over else ""
        aim = "" if self.aim is None else f" (goal {self.aim:g})"
        of = "" if self.of == OURS else f"{self.of} "
        return f"{of}{self.sign} {self.bound:,g}{what}{over}{aim}"


@dataclass(frozen=True, slots=True)
class Absences:
    """Why something is not there."""

    targets: Mapping[str, str] = field(default_factory=dict[str, str])  # could not be installed or started
    figures: Mapping[str, str] = field(default_factory=dict[str, str])  # can not be measured on this machine
    runs: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])  # of a figure and target

    def why(self, figure: str, target: str) -> str | None:
        return self.figures.get(figure) or self.targets.get(target) or self.runs.get((figure, target))

    def blames(self, figure: str, target: str) -> bool:
        """True when it is the target's own fault: it did not start, or failed where the worker alone did not."""
        if figure in self.figures:
            return False
        return target in self.targets or ((figure, target) in self.runs and (figure, "direct") not in self.runs)


@dataclass(frozen=True, slots=True)
class Verdict:
    goal: Goal
    spread: Spread
    outcome: Outcome
    why: str = ""  # it was not measured


GOALS = (
    # The gateway has the core to itself, as peers that keep no books have; beside its settler is shown too.
    Goal("throughput", "requests_per_second", "≥", 0.75, times="vllm-router", of="tollgate-settler-apart", aim=1.0),
    Goal("throughput", "requests_per_second", "≥", 60, times="litellm"),
    Goal("limits", "requests_per_second", "≥", 0.85, times="tollgate-unlimited"),
    # On two cores the settler takes its time from the load generator, which then is what limits the gateway.
    Goal("ledger", "requests_per_second", "≥", 0.9, times="tollgate-unledgered", of="tollgate-settler-apart", cores=3),
    Goal("limits", "requests_per_second", "≥", 0.85, times="tollgate-unlimited", of="tollgate-redis"),
    Goal("burst", "events_per_second", "≥", 2, times="vllm-router"),
    Goal("paced", "cpu_per_event", "≤", 1.6, times="nginx"),
    Goal("paced", "gap_p99", "≤", 5, "ms", over="direct"),
    Goal("alone", "p50", "≤", 0.25, "ms", over="direct"),
    Goal("alone", "p99", "≤", 1, "ms", over="direct"),
    Goal("many", "resident", "≤", 250, "MB"),
    # Load generator, worker and two processes need a core each, or it is the machine that does not scale.
    Goal("processes", "requests_per_second", "≥", 1.8, times="tollgate", of="tollgate-2", cores=4),
    # What shows on fewer cores: processes that share no lock and do no work twice spend on a request what two separate
    # gateways do in their place. (Against one process alone it would be the shared core that is measured.)
    Goal("processes", "cpu_per_request", "≤", 1.1, times="tollgate-pair", of="tollgate-2"),
)


def judge(goal: Goal, values: Values, absences: Absences, cores: int) -> Verdict:
    """Met when the median keeps the bound; missed when not even the best repetition does, or when the gateway's own
    failure left nothing to measure. Ratios and differences are taken repetition by repetition."""
    if goal.cores > cores:
        return _not_measured(goal, f"needs {goal.cores} cores, this machine has {cores}")
    measured = values.get((goal.figure, goal.number, goal.of), ())
    against = goal.times or goal.over
    if against is not None:
        theirs = values.get((goal.figure, goal.number, against), ())
        measured = ratios(measured, theirs) if goal.times else differences(measured, theirs)
    spread = Spread.of(measured)
    if math.isnan(spread.median):
        return _absent(goal, against, absences)
    at_least = goal.sign == "≥"
    best = spread.high if at_least else spread.low

    def keeps(value: float) -> bool:
        return value >= goal.bound if at_least else value <= goal.bound

    outcome: Outcome = "met" if keeps(spread.median) else "within noise" if keeps(best) else "missed"
    return Verdict(goal, spread, outcome)


def _absent(goal: Goal, against: str | None, absences: Absences) -> Verdict:
    if absences.blames(goal.figure, goal.of):
        why = absences.why(goal.figure, goal.of) or ""
        return Verdict(goal, Spread.of(()), "missed", f"{goal.of}: {why}")
    for target in (goal.of, against):
        if target and (why := absences.why(goal.figure, target)):
            return _not_measured(goal, why if goal.figure in absences.figures else f"{target}: {why}")
    return _not_measured(goal, "not part of this run")


def _not_measured(goal: Goal, why: str) -> Verdict:
    return Verdict(goal, Spread.of(()), "not measured", why)
