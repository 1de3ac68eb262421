"""Verdicts: met, missed, or a difference the noise can explain."""

from __future__ import annotations

import pytest

from loadtests.figures import FIGURES
from loadtests.targets import GOALS, Goal, judge

AT_LEAST = Goal("throughput", "requests_per_second", "≥", 100)
AT_MOST = Goal("paced", "cpu_per_event", "≤", 30)


@pytest.mark.parametrize(
    ("goal", "measured", "outcome"),
    [
        (AT_LEAST, [90, 110, 120], "met"),
        (AT_LEAST, [90, 95, 101], "within noise"),
        (AT_LEAST, [90, 95, 99], "missed"),
        (AT_MOST, [29, 30, 50], "met"),
        (AT_MOST, [29, 31, 32], "within noise"),
        (AT_MOST, [31, 32, 33], "missed"),
        (AT_MOST, [], "not measured"),
    ],
)
def test_verdicts(goal: Goal, measured: list[float], outcome: str) -> None:
    verdict = judge(goal, {(goal.figure, goal.number, "tollgate"): measured})
    assert verdict.outcome == outcome


def test_a_ratio_compares_runs_that_were_neighbours() -> None:
    goal = Goal("throughput", "requests_per_second", "≥", 0.5, against="vllm-router")
    key = ("throughput", "requests_per_second")
    values = {(*key, "tollgate"): [10.0, 100.0], (*key, "vllm-router"): [18.0, 180.0]}
    verdict = judge(goal, values)
    assert verdict.spread.median == pytest.approx(10 / 18)
    assert verdict.outcome == "met"
    assert judge(goal, {(*key, "tollgate"): [10.0]}).outcome == "not measured"


def test_every_goal_is_about_a_number_that_is_measured() -> None:
    known = {(figure.key, number.key) for figure in FIGURES for number in figure.numbers}
    assert {(goal.figure, goal.number) for goal in GOALS} <= known
