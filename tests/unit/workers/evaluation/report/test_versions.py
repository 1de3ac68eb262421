from __future__ import annotations

from random import Random

from tests.evaluations import evaluation, running, several, subject
from workers.evaluation.report.versions import candidates, largest_batch, references, speedup
from workers.evaluation.result import Running


def test_versions_of_one_model_go_by_their_version() -> None:
    assert [one.label for one in candidates(several(3))] == ["fp8", "int8", "int4"]


def test_versions_of_different_models_go_by_both() -> None:
    found = candidates([evaluation("scribe@int8"), evaluation("other@int8")])

    assert [one.label for one in found] == ["scribe@int8", "other@int8"]


def test_the_same_name_twice_is_told_apart() -> None:
    found = candidates([evaluation("scribe@int8"), evaluation("scribe@int8"), evaluation("")])

    assert [one.name for one in found] == ["scribe@int8 (1)", "scribe@int8 (2)", "(unnamed)"]


def test_a_reference_of_several_is_there_once_with_the_median_of_its_measurements() -> None:
    runs = [running(9_000_000, faster, Random(1)) for faster in (3.0, 1.0, 2.0)]
    measured = [evaluation(reference_running=run) for run in (*runs, Running())]
    (found,) = references(measured)

    assert (found.name, found.label) == ("scribe", "reference")
    assert found.running == runs[2]
    assert len(found.speeds) == 3


def test_different_references_keep_their_names() -> None:
    other = evaluation("other@int8", reference=subject("other", "none", 16.0))

    assert [one.label for one in references([evaluation(), other])] == ["reference scribe", "reference other"]


def test_versions_are_compared_at_the_largest_batch_that_all_have() -> None:
    first, second = several(2)
    half = first.candidate_running.model_copy(update={"speed": first.candidate_running.speed[:2]})

    assert largest_batch([first, second]) == 16
    assert largest_batch([first.model_copy(update={"candidate_running": half}), second]) == 4
    assert largest_batch([evaluation(candidate_running=Running(), reference_running=Running())]) is None


def test_a_speedup_is_against_the_reference_measured_beside_it() -> None:
    (one,) = candidates([evaluation(faster=2.0)])
    base = one.evaluation.reference_running.speed[-1].output_tokens_per_second

    assert speedup(one, 16) == one.evaluation.candidate_running.speed[-1].output_tokens_per_second / base
    assert speedup(one, 3) is None
    assert speedup(one, None) is None
