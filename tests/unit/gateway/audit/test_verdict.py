"""What the ledger keeps of a span."""

from __future__ import annotations

import pytest

from gateway.audit import verdict
from gateway.audit.drift import standings
from gateway.audit.spans import Span
from tests.unit.gateway.audit.rows import mark

START, END = mark(2_000.0, 100, 50), mark(2_100.0, 200, 70)


def test_an_exact_one_leaves_what_is_not_corrected_as_drift() -> None:
    found = verdict.exact("w", Span(START, END, 80, 30, 5, 0, 2), 10, -4)
    assert (found.engine_prompt, found.ledger_prompt, found.corrected_prompt, found.drift_prompt) == (100, 80, 15, 5)
    assert (found.engine_output, found.ledger_output, found.corrected_output, found.drift_output) == (20, 30, -4, -6)
    assert (found.prompt_counter, found.output_counter, found.estimated) == (200, 70, 2)


@pytest.mark.parametrize(("ledger", "drift"), [(100, 0), (70, 0), (130, 0), (60, 10), (140, -10)])
def test_a_rough_one_calls_drift_what_lies_beyond_its_slack(ledger: int, drift: int) -> None:
    found = verdict.rough("w", Span(START, END, ledger, 20, slack_prompt=30), "busy")
    assert (found.drift_prompt, found.drift_output, found.exact) == (drift, 0, False)


def test_what_nobody_observed_is_no_drift() -> None:
    found = verdict.unobserved("w", START, END._replace(started=2_090.0), Span(START, END, 500, 500))
    assert (found.unobserved_seconds, found.engine_prompt, found.drift_prompt, found.ledger_prompt) == (
        100.0,
        0,
        0,
        500,
    )
    (standing,) = standings([found]).values()
    assert (standing.engine, standing.ledger, standing.drift, standing.unobserved_seconds) == (0, 0, 0, 100.0)


def test_the_ledgers_surplus_is_measured_against_what_it_has() -> None:
    empty = Span(START, START._replace(at=2_100.0), 300, 100)
    (standing,) = standings([verdict.exact("w", empty, 0, 0)]).values()
    assert (standing.drift, standing.ratio) == (400, 1.0)
    (calm,) = standings([verdict.exact("w", Span(START, START), 0, 0)]).values()
    assert calm.ratio == 0.0
