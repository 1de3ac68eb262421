"""What was lost since an earlier evaluation, and what cannot be said."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tests.unit.workers.evaluation.evaluations import conditions, divergence, evaluation, interval, running, task
from workers.errors import WrongUsage
from workers.evaluation.baseline import NAMES, Tolerances, changed, verdicts
from workers.evaluation.result import Evaluation, Perplexity, Verdict

BEFORE = evaluation()


def judged(now: Evaluation, tolerances: Tolerances | None = None) -> dict[str, Verdict]:
    found = verdicts(now, BEFORE, tolerances or Tolerances())
    return {one.gate.removeprefix("baseline "): one for one in found}


def lost(now: Evaluation, tolerances: Tolerances | None = None) -> set[str]:
    return {gate for gate, one in judged(now, tolerances).items() if one.passed is False}


def unjudged(now: Evaluation) -> set[str]:
    return {gate for gate, one in judged(now).items() if one.passed is None}


def test_the_same_again_has_lost_nothing() -> None:
    assert lost(BEFORE) == unjudged(BEFORE) == set()
    assert set(judged(BEFORE)) == {
        *("divergence", "same-top", "perplexity", "task sql"),
        *("speed batch 1", "latency batch 1", "speed batch 4", "latency batch 4"),
        *("memory weights", "memory cache", "memory peak"),
    }


def test_accuracy_is_lost() -> None:
    assert lost(evaluation(divergence=divergence(0.0013, 0.98))) == {"divergence"}
    assert lost(evaluation(divergence=divergence(0.0012, 0.98))) == set()
    assert lost(evaluation(divergence=divergence(0.001, 0.96))) == {"same-top"}
    worse = Perplexity(tokens=1, reference=10.0, candidate=10.2, ratio=interval(1.02))
    assert lost(evaluation(perplexity=worse)) == {"perplexity"}
    assert lost(evaluation(tasks=(task(lost=8),))) == {"task sql"}


def test_what_the_reference_differs_from_itself_by_is_free() -> None:
    noisy = evaluation(divergence=divergence(0.0013, 0.98), floor=divergence(0.0005, 0.999))
    assert lost(noisy) == set()


def test_speed_and_memory_are_lost() -> None:
    assert lost(evaluation(candidate_running=running(speed=89.0))) == {"speed batch 1", "speed batch 4"}
    assert lost(evaluation(candidate_running=running(speed=91.0))) == set()
    assert lost(evaluation(candidate_running=running(ttft=63.0))) == {"latency batch 1", "latency batch 4"}
    assert lost(evaluation(candidate_running=running(weight_bytes=530))) == {"memory weights"}
    assert lost(evaluation(candidate_running=running(kv_tokens=900))) == {"memory cache"}
    assert lost(evaluation(candidate_running=running(peak_bytes=11_000))) == {"memory peak"}
    assert lost(evaluation(candidate_running=running(speed=89.0)), Tolerances(speed=0.2)) == set()


def test_other_devices_are_not_compared_in_speed_but_in_accuracy() -> None:
    now = evaluation(conditions=conditions(device="NVIDIA H200"), candidate_running=running(speed=1.0))
    assert lost(now) == set()
    assert unjudged(now) == {
        *("speed batch 1", "latency batch 1", "speed batch 4", "latency batch 4", "memory cache", "memory peak"),
    }
    assert "another device (CPU, this is NVIDIA H200)" in judged(now)["speed batch 1"].reason
    assert lost(now.model_copy(update={"divergence": divergence(0.1)})) == {"divergence"}


def test_other_text_and_another_reference_are_not_compared_in_accuracy() -> None:
    other_text = evaluation(conditions=conditions(texts={"windows": "b"}))
    other_reference = evaluation(reference=BEFORE.reference.model_copy(update={"digest": "sha256:9"}))
    for now in (other_text, other_reference):
        assert {"divergence", "same-top", "perplexity"} <= unjudged(now)


def test_what_is_not_measured_any_more_is_not_judged() -> None:
    now = evaluation(divergence=None, tasks=(), candidate_running=running().model_copy(update={"memory": None}))
    assert unjudged(now) == {
        *("divergence", "same-top", "task sql", "memory weights", "memory cache", "memory peak"),
    }


def test_examples_that_are_others_are_not_compared() -> None:
    now = evaluation(conditions=conditions(texts={"windows": "a", "text": "t", "sql": "x"}))
    assert unjudged(now) == {"task sql"}


def test_a_tolerance_is_a_share_or_off() -> None:
    found = changed(Tolerances(), {"speed": "15%", "same-top": "0.02", "memory": "off"})
    assert (found.speed, found.same_top, found.memory) == (0.15, 0.02, None)
    assert not [gate for gate in judged(BEFORE, found) if gate.startswith("memory")]
    for name, text in (("speeed", "1%"), ("speed", "much"), ("speed", "-1%"), ("speed", "inf")):
        with pytest.raises(WrongUsage, match="speed"):
            changed(Tolerances(), {name: text})


def test_nothing_is_compared_where_every_tolerance_is_off() -> None:
    assert verdicts(BEFORE, BEFORE, Tolerances(**dict.fromkeys((one.name for one in fields(Tolerances)), None))) == ()
    assert len(NAMES) == len(fields(Tolerances))
