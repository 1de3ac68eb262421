"""Every gate's verdict, and the reason that it gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.evaluation.evaluations import divergence, evaluation, interval, running, subject, task
from workers.evaluation.assemble import judged
from workers.evaluation.baseline import Tolerances
from workers.evaluation.bounds import ADAPTER, EIGHT_BITS, FOUR_BITS, Bounds
from workers.evaluation.gates import verdicts
from workers.evaluation.result import Evaluation, LongContext, Perplexity, Robustness, SchemaAdherence, Verdict


def verdict(found: Evaluation, gate: str, bounds: Bounds = EIGHT_BITS) -> Verdict:
    (one,) = (one for one in verdicts(found, bounds) if one.gate == gate)
    return one


def passes(found: Evaluation, bounds: Bounds = EIGHT_BITS) -> bool:
    return judged(found, bounds, (), None, Tolerances()).passed


def test_what_is_good_enough_everywhere_passes() -> None:
    assert [one.gate for one in verdicts(evaluation(), EIGHT_BITS) if not one.passed] == []
    assert passes(evaluation())


@pytest.mark.parametrize(
    ("kld", "same", "eight", "four"),
    [(0.0014, 0.977, True, True), (0.031, 0.919, False, True), (0.45, 0.711, False, False)],
)
def test_bits_decide_what_divergence_is_too_much(kld: float, same: float, eight: bool, four: bool) -> None:
    """llama.cpp's q8_0, q4_K_M and q2_K on Llama-3-8B."""
    found = evaluation(divergence=divergence(kld, same))
    for bounds, expected in ((EIGHT_BITS, eight), (FOUR_BITS, four)):
        assert verdict(found, "divergence", bounds).passed is expected
        assert verdict(found, "same-top", bounds).passed is expected
        assert passes(found, bounds) is expected


@pytest.mark.parametrize(
    ("measured", "passed", "says"),
    [
        (interval(0.005, 0.004, 0.006), True, "so is its interval"),
        (interval(0.009, 0.006, 0.012), True, "though its interval is not"),
        (interval(0.009, 0.001, 0.030), None, "too little text"),
        (interval(0.011, 0.009, 0.013), False, "its interval reaches the bound"),
        (interval(0.020, 0.015, 0.025), False, "more is lost than may be"),
    ],
)
def test_how_an_interval_is_judged(measured: object, passed: bool | None, says: str) -> None:
    found = verdict(evaluation(divergence=divergence(measured)), "divergence")  # pyright: ignore[reportArgumentType]
    assert found.passed is passed
    assert says in found.reason
    assert (found.limit, found.ideal) == (0.01, 0.0)


def test_a_reference_that_differs_from_itself_judges_nothing() -> None:
    found = evaluation(floor=divergence(interval(0.004, 0.003, 0.006), 0.99))
    assert verdict(found, "floor").passed is None
    assert "says nothing" in verdict(found, "floor").reason
    assert not passes(found)
    assert passes(found, FOUR_BITS)
    assert not passes(evaluation(floor=divergence(0.0001, 0.97)))


def test_divergence_and_perplexity_never_accept_alone() -> None:
    found = evaluation(tasks=())
    assert verdict(found, "tasks").passed is None
    assert "never accept" in verdict(found, "tasks").reason
    assert not passes(found)


def test_a_task_that_neither_can_do_proves_nothing_by_itself() -> None:
    assert not passes(evaluation(tasks=(task(reference_correct=0, candidate_correct=0),)))
    assert passes(evaluation(tasks=(task(reference_correct=0, candidate_correct=9, gained=9),)))


@pytest.mark.parametrize(
    ("one", "passed", "says"),
    [
        (task(lost=2, gained=2), True, "not worse"),
        (task(lost=4, gained=1, p_value=0.19), True, "more examples would tell"),
        (task(lost=8, gained=2, p_value=0.055), None, "may be chance"),
        (task(lost=30, gained=2, p_value=1e-7), False, "beyond chance"),
        (task(lost=30, gained=2, p_value=1e-7, unanswered=12), False, "of 400, 12 not answered"),
        (task(examples=0), None, "no examples"),
        (task(reference_correct=0, candidate_correct=0), None, "ask easier ones"),
    ],
)
def test_how_a_task_is_judged(one: object, passed: bool | None, says: str) -> None:
    found = verdict(evaluation(tasks=(one,)), "task sql")
    assert found.passed is passed
    assert says in found.reason
    # What may be chance holds nobody up, what was not asked does.
    assert passes(evaluation(tasks=(one, task(name="other")))) is (
        passed is True or says in ("may be chance", "ask easier ones")
    )


def test_only_undecided_tasks_are_no_evidence_for_a_version() -> None:
    undecided = task(lost=8, gained=2, p_value=0.055)
    assert not passes(evaluation(tasks=(undecided,)))
    assert passes(evaluation(tasks=(undecided, task(name="support"))))


def test_a_long_context_is_judged_on_its_own() -> None:
    far = LongContext(context=2047, tokens=256, perplexity_ratio=1.3, mean_kld=0.2, same_top=0.9)
    found = verdict(evaluation(long_context=(far,)), "long-context")
    assert found.passed is False
    assert "2,047" in found.reason
    assert not passes(evaluation(long_context=()))


def test_perplexity_is_a_ratio() -> None:
    lost = Perplexity(tokens=1, reference=5.12, candidate=5.67, ratio=interval(1.107, 1.10, 1.11))
    assert verdict(evaluation(perplexity=lost), "perplexity").passed is False
    assert verdict(evaluation(perplexity=lost), "perplexity", FOUR_BITS).passed is True


def test_one_hard_input_that_goes_wrong_is_one_too_many() -> None:
    wrong = (Robustness(name="emoji", ok=False, detail="it answered nothing"),)
    assert "emoji: it answered nothing" in verdict(evaluation(robustness=wrong), "robustness").reason
    assert not passes(evaluation(robustness=wrong))
    assert passes(evaluation(robustness=wrong), replace(EIGHT_BITS, robustness=1.0))


def test_structured_outputs_must_not_lose_an_answer() -> None:
    def found(mode: str, valid: int) -> Evaluation:
        adherence = SchemaAdherence.model_validate(
            {"mode": mode, "asked": 20, "reference_valid": 20, "candidate_valid": valid}
        )
        return evaluation(schemas=(adherence,))

    assert verdict(found("guided", 19), "schema guided").passed is False
    assert verdict(found("prompted", 19), "schema prompted").passed is True
    assert verdict(found("prompted", 18), "schema prompted").passed is False
    assert passes(evaluation(schemas=()))  # not every endpoint has them


def test_a_version_that_saves_no_memory_is_none() -> None:
    assert verdict(evaluation(candidate=subject(weight_bytes=1001)), "memory").passed is False
    assert not [one for one in verdicts(evaluation(candidate=subject(weight_bytes=0)), EIGHT_BITS) if "mem" in one.gate]


def test_speed_is_asked_only_where_somebody_asks() -> None:
    asked = replace(EIGHT_BITS, speed=1.0)
    assert not [one for one in verdicts(evaluation(), EIGHT_BITS) if one.gate.startswith("speed")]
    assert verdict(evaluation(), "speed batch 4", asked).passed is True
    assert verdict(evaluation(candidate_running=running(speed=80.0)), "speed batch 4", asked).passed is False
    assert (
        verdict(evaluation(candidate_running=running().model_copy(update={"speed": ()})), "speed", asked).passed is None
    )


def test_an_adapter_may_say_something_else_but_not_less() -> None:
    other = evaluation(divergence=divergence(2.0, 0.3), candidate=subject(weight_bytes=1100))
    assert passes(other, ADAPTER)
    assert not passes(other.model_copy(update={"tasks": (task(lost=30, p_value=1e-7),)}), ADAPTER)


@given(st.floats(0, 0.1), st.floats(0, 0.1), st.floats(0, 0.1), st.floats(0, 0.1))
def test_less_divergence_is_never_judged_worse(value: float, width: float, less: float, narrower: float) -> None:
    """Worst first: not passed, not judged, passed."""
    rank = {False: 0, None: 1, True: 2}

    def judge(value: float, width: float) -> int:
        measured = interval(value, max(0.0, value - width), value + width)
        return rank[verdict(evaluation(divergence=divergence(measured)), "divergence").passed]

    assert judge(max(0.0, value - less), max(0.0, width - narrower)) >= judge(value, width)


def test_what_is_written_of_an_evaluation_has_its_bounds() -> None:
    found = judged(evaluation(), EIGHT_BITS, ("kld",), None, Tolerances())
    assert found.bounds["same-top"] == 0.96
    assert found.bounds["speed"] is None
    assert found.chosen == ("kld",)
    assert Evaluation.model_validate_json(found.to_json()) == found
