from __future__ import annotations

import math

import pytest

from tests.evaluations import evaluation, several, verdict
from workers.evaluation.report.verdicts import because, headline, share_used, short_verdict, stamp, standing
from workers.evaluation.report.versions import candidates
from workers.evaluation.result import Evaluation, Verdict


def judged(*verdicts: Verdict) -> Evaluation:
    return evaluation(verdicts=verdicts)


PASSED = verdict("divergence", 0.002, 0.01, 0.0, "0.0020 nats", "≤ 0.0100 nats")
FAILED = verdict("perplexity", 1.3, 1.02, 1.0, "× 1.3000", "≤ × 1.02")
UNKNOWN = Verdict(gate="task sql", passed=None, measured="–", bound="≤ 1 point", reason="not measured")
OPTIONAL = Verdict(gate="speed", passed=None, measured="–", bound="≥ 95 %", reason="no baseline", optional=True)


@pytest.mark.parametrize(
    ("found", "said", "why"),
    [
        (judged(PASSED), "may serve", "It passed the gate."),
        (judged(PASSED, OPTIONAL), "may serve", "It passed the gate; speed could not be judged, and need not be."),
        (judged(PASSED, PASSED), "may serve", "It passed both gates."),
        (
            judged(PASSED, FAILED),
            "may not serve",
            "Gate perplexity stopped it: measured × 1.3000, bound ≤ × 1.02.",
        ),
        (
            judged(UNKNOWN, FAILED),
            "may not serve",
            "Gate perplexity stopped it: measured × 1.3000, bound ≤ × 1.02. Not judged: task sql.",
        ),
        (judged(PASSED, UNKNOWN), "may not serve yet", "Gate task sql could not be judged: not measured."),
        (judged(), "may not serve yet", "No gate has judged it."),
    ],
)
def test_the_verdict_is_a_sentence_with_its_gate(found: Evaluation, said: str, why: str) -> None:
    assert short_verdict(found) == said
    assert because(found) == why
    assert (standing(found) == "pass") == found.passed


def test_many_failed_gates_are_named_briefly() -> None:
    failed = [FAILED.model_copy(update={"gate": f"gate{one}"}) for one in range(8)]

    assert because(judged(*failed)).endswith("So did gate1, gate2, gate3, gate4 and 3 more.")


@pytest.mark.parametrize(
    ("value", "limit", "ideal", "share"),
    [
        (0.002, 0.01, 0.0, 0.2),
        (0.98, 0.96, 1.0, 0.5),
        (1.03, 1.02, 1.0, 1.5),
        (-0.4, 1.0, 0.0, 0.0),
        (280.0, 285.0, 300.0, 20 / 15),
        (1.0, 1.0, 1.0, None),
        (2.0, 1.0, 1.0, math.inf),
        (math.nan, 1.0, 0.0, None),
    ],
)
def test_the_share_of_what_may_be_lost(value: float, limit: float, ideal: float, share: float | None) -> None:
    found = Verdict(gate="g", passed=False, measured="", bound="", reason="", value=value, limit=limit, ideal=ideal)

    assert share_used(found) == (None if share is None else pytest.approx(share))


def test_several_versions_have_one_headline() -> None:
    found = candidates(several(3))

    assert headline(found) == ("open", "Two of three versions may serve")
    assert stamp(found) == "2/3"
    assert headline(found[:2]) == ("pass", "Both versions may serve")
    assert headline(candidates([judged(UNKNOWN)] * 3)) == ("open", "None of three versions may serve yet")
    assert stamp(candidates([judged(UNKNOWN)] * 3)) == "?"
    assert headline([found[2], found[2]]) == ("fail", "Neither version may serve")
    assert headline(found[:1]) == ("pass", "scribe@fp8 may serve")
