"""Verdicts: met, missed, or a difference the noise can explain; and what can not be judged, and why."""

from __future__ import annotations

import math

import pytest

from loadtests.figures import FIGURES
from loadtests.peers import PEERS
from loadtests.targets import GOALS, Absences, Goal, Verdict, judge

AT_LEAST = Goal("throughput", "requests_per_second", "≥", 100)
AT_MOST = Goal("paced", "cpu_per_event", "≤", 30)
RATIO = Goal("throughput", "requests_per_second", "≥", 0.5, times="vllm-router")
ADDED = Goal("alone", "p99", "≤", 1, "ms", over="direct")


def verdict(goal: Goal, measured: dict[str, list[float]], absences: Absences | None = None, cores: int = 2) -> Verdict:
    values = {(goal.figure, goal.number, target): runs for target, runs in measured.items()}
    return judge(goal, values, absences or Absences(), cores)


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
    assert verdict(goal, {"tollgate": measured}).outcome == outcome


def test_a_ratio_compares_runs_that_were_neighbours() -> None:
    found = verdict(RATIO, {"tollgate": [10.0, 100.0], "vllm-router": [18.0, 180.0]})
    assert found.spread.median == found.spread.low == pytest.approx(10 / 18)
    assert found.outcome == "met"


def test_a_difference_does_so_too() -> None:
    found = verdict(ADDED, {"tollgate": [1.0, 11.0], "direct": [0.5, 10.5]})
    assert (found.spread.low, found.spread.high, found.outcome) == (0.5, 0.5, "met")
    assert verdict(ADDED, {"tollgate": [3.0, 13.0], "direct": [0.5, 10.5]}).outcome == "missed"


def test_a_run_that_was_left_out_does_not_shift_the_others() -> None:
    found = verdict(RATIO, {"tollgate": [math.nan, 40.0, 90.0], "vllm-router": [10.0, 100.0, 100.0]})
    assert (found.spread.low, found.spread.high, found.spread.runs) == (0.4, 0.9, 2)


def test_what_the_machine_can_not_show_is_not_judged() -> None:
    goal = Goal("processes", "requests_per_second", "≥", 1.8, times="tollgate", of="tollgate-2", cores=4)
    measured = {"tollgate": [100.0], "tollgate-2": [101.0]}
    found = verdict(goal, measured, cores=2)
    assert (found.outcome, found.why) == ("not measured", "needs 4 cores, this machine has 2")
    assert verdict(goal, measured, cores=4).outcome == "missed"


def test_a_peer_that_is_not_there_is_a_reason_and_no_miss() -> None:
    found = verdict(RATIO, {"tollgate": [10.0]}, Absences(targets={"vllm-router": "no package"}))
    assert (found.outcome, found.why) == ("not measured", "vllm-router: no package")
    assert verdict(RATIO, {"tollgate": [10.0]}).why == "not part of this run"


def test_a_gateway_that_does_not_start_misses_its_targets() -> None:
    found = verdict(RATIO, {"vllm-router": [10.0]}, Absences(targets={"tollgate": "no answer"}))
    assert (found.outcome, found.why) == ("missed", "tollgate: no answer")


def test_a_gateway_that_fails_where_the_worker_does_not_misses_its_target() -> None:
    failed = {"tollgate": [math.nan], "vllm-router": [10.0]}
    absences = Absences(runs={("throughput", "tollgate"): "30 × status 500"})
    assert verdict(RATIO, failed, absences).outcome == "missed"
    everywhere = Absences(runs={("throughput", "tollgate"): "slow", ("throughput", "direct"): "slow"})
    assert verdict(RATIO, failed, everywhere).outcome == "not measured"


def test_an_obstacle_of_the_machine_is_nobodys_fault() -> None:
    goal = Goal("many", "resident", "≤", 250, "MB")
    found = verdict(goal, {}, Absences(targets={"tollgate": "no answer"}, figures={"many": "too few descriptors"}))
    assert (found.outcome, found.why) == ("not measured", "too few descriptors")


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        (AT_MOST, "≤ 30"),
        (ADDED, "≤ 1 ms over direct"),
        (
            Goal("throughput", "requests_per_second", "≥", 0.75, times="vllm-router", aim=1.0),
            "≥ 0.75 × vllm-router (goal 1)",
        ),
        (Goal("many", "resident", "≤", 250, "MB"), "≤ 250 MB"),
    ],
)
def test_a_goal_says_what_it_wants(goal: Goal, text: str) -> None:
    assert goal.text == text


def test_every_goal_is_about_a_number_that_is_measured() -> None:
    known = {(figure.key, number.key) for figure in FIGURES for number in figure.numbers}
    assert {(goal.figure, goal.number) for goal in GOALS} <= known
    names = {peer.name for peer in PEERS}
    assert {name for goal in GOALS for name in (goal.of, goal.times, goal.over) if name} <= names
