from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.adapters.gates import improves, judged, reads_as_before
from workers.errors import WrongUsage
from workers.evaluation.bounds import NAMES
from workers.evaluation.result import Conditions, Evaluation, Interval, Perplexity, Subject, Task, Verdict

PASSED = Verdict(gate="task sql", passed=True, measured="", bound="", reason="")


def task(gained: int, lost: int, name: str = "sql") -> Task:
    same = 100
    return Task(
        name=name,
        examples=same + gained + lost,
        reference_correct=same + lost,
        candidate_correct=same + gained,
        lost=lost,
        gained=gained,
        p_value=0.5,
        loss_points=Interval(value=0, low=0, high=0),
    )


def evaluation(ratio: float | None, *tasks: Task) -> Evaluation:
    subject = Subject(
        name="a", artifact=None, digest=None, recipe=None, quantization="none", weight_bytes=1, bits_per_weight=16
    )
    perplexity = None
    if ratio is not None:
        perplexity = Perplexity(
            tokens=9, reference=10, candidate=10 * ratio, ratio=Interval(value=ratio, low=ratio, high=ratio)
        )
    return Evaluation(
        candidate=subject,
        reference=subject,
        conditions=Conditions(at="", tollgate="", engine="", device="", libraries={}, seed=1, texts={}),
        perplexity=perplexity,
        tasks=tasks,
        verdicts=(PASSED,),
        bounds=dict.fromkeys(NAMES),
    )


def test_one_that_does_better_and_reads_as_before_passes() -> None:
    found = judged(evaluation(1.05, task(30, 2)), "sql", 1.1)

    assert [one.gate for one in found.verdicts] == ["task sql", "improves sql", "general text"]
    assert found.passed


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (2, 0), (10, 10), (0, 40), (12, 8)])
def test_a_gain_that_may_be_chance_is_none(gained: int, lost: int) -> None:
    assert improves(task(gained, lost)).passed is False


@given(st.integers(0, 200), st.integers(0, 200))
def test_only_a_gain_improves(gained: int, lost: int) -> None:
    if improves(task(gained, lost)).passed:
        assert gained > lost
        assert not improves(task(lost, gained)).passed


@pytest.mark.parametrize(("ratio", "passed"), [(0.9, True), (1.1, True), (1.11, False), (None, None)])
def test_what_the_base_knew_must_not_be_unlearnt(ratio: float | None, passed: bool | None) -> None:
    found = judged(evaluation(ratio, task(30, 2)), "sql", 1.1)

    assert reads_as_before(found, 1.1).passed is passed
    assert found.passed is bool(passed)
    assert judged(found, "sql", None).verdicts[-1].gate == "improves sql"


def test_a_task_that_was_not_measured_is_said() -> None:
    with pytest.raises(WrongUsage, match="has not measured it, but support; measure it with"):
        judged(evaluation(1, task(9, 0, "support")), "sql", 1.1)


def test_where_nothing_was_judged_nothing_is_proven() -> None:
    with pytest.raises(WrongUsage, match="no gate has judged"):
        judged(evaluation(1, task(30, 0)).model_copy(update={"verdicts": ()}), "sql", None)
