"""Spans between quiet marks, and the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.spans import CALM_SECONDS, PER_ESTIMATE, Span, quiet_spans, rough_span
from gateway.ledger.audits import Slot
from tests.unit.gateway.audit.rows import mark, slot

START = mark(100.0)


def test_a_span_has_what_began_and_ended_in_it() -> None:
    end = mark(200.0, 30, 12)
    (span,) = quiet_spans(START, [end], [slot(110, 120, 10, 4), slot(115, 130, 20, 8)])
    assert (span.start, span.end, span.prompt_tokens, span.output_tokens) == (START, end, 30, 12)
    assert (span.left_prompt, span.left_output, span.estimated) == (0, 0, 0)


def test_a_mark_within_an_attempt_is_not_quiet() -> None:
    within, after = mark(150.0, 7), mark(200.0, 10)
    (span,) = quiet_spans(START, [within, after], [slot(140, 160, 10)])
    assert (span.start, span.end) == (START, after)


def test_a_mark_too_soon_after_an_attempt_is_not_quiet() -> None:
    soon, later = mark(120 + CALM_SECONDS / 2, 9), mark(120 + 2 * CALM_SECONDS, 10)
    (span,) = quiet_spans(START, [soon, later], [slot(110, 120, 10, estimated=True)])
    assert span.end == later


def test_a_long_attempt_covers_those_that_end_before_it() -> None:
    assert quiet_spans(START, [mark(150.0)], [slot(110, 190, 1), slot(120, 125, 1)]) == []


def test_attempts_after_a_mark_are_not_its() -> None:
    one, two = mark(150.0, 10), mark(200.0, 15)
    estimated = slot(160, 170, 5, estimated=True)
    first, second = quiet_spans(START, [one, two], [slot(110, 120, 10), estimated])
    assert (first.end, first.prompt_tokens, second.start, second.prompt_tokens) == (one, 10, one, 5)
    assert (first.estimated, second.estimated) == (0, 1)


def test_spans_without_estimates_become_one() -> None:
    (span,) = quiet_spans(START, [mark(150.0, 10), mark(200.0, 15)], [slot(110, 120, 10), slot(160, 170, 5)])
    assert (span.start, span.end.at, span.prompt_tokens) == (START, 200.0, 15)


def test_corrections_count_as_such() -> None:
    slots = [slot(110, 120, 10, 4, estimated=True), slot(110, 110, -3, 2, estimated=True, correction=1)]
    (span,) = quiet_spans(START, [mark(150.0, 7, 6)], slots)
    assert (span.prompt_tokens, span.corrected_prompt, span.output_tokens, span.corrected_output) == (10, -3, 4, 2)
    assert (span.left_prompt, span.left_output, span.estimated) == (0, 0, 1)


def test_without_a_start_it_begins_at_the_first_quiet_mark() -> None:
    marks = [mark(100.0, 5, calm=False), mark(115.0, 7), mark(150.0, 20), mark(200.0, 30)]
    (span,) = quiet_spans(None, marks, [slot(90, 120, 20), slot(160, 170, 10)])
    assert (span.start.at, span.end.at, span.engine_prompt, span.prompt_tokens) == (150.0, 200.0, 10, 10)


times = st.floats(101, 199)
slots_ = st.lists(
    st.tuples(times, st.floats(0, 30), st.integers(0, 99), st.booleans()).map(
        lambda made: slot(made[0], made[0] + made[1], made[2], made[2], estimated=made[3])
    )
)


@given(slots_, st.lists(times, max_size=12))
def test_no_attempt_is_lost_or_counted_twice(slots: list[Slot], at: list[float]) -> None:
    """Whatever runs when: the spans lie end to end, none ends within an attempt, and together they have what is before
    their end."""
    slots.sort()
    spans = quiet_spans(START, [mark(each) for each in sorted(at)], slots)
    ends = [START.at, *(span.end.at for span in spans)]
    assert ends == sorted(ends)
    assert [span.start.at for span in spans] == ends[:-1]
    before = [one for one in slots if one.opened_at <= ends[-1]]
    assert sum(span.prompt_tokens for span in spans) == sum(one.prompt_tokens for one in before)
    assert sum(span.estimated for span in spans) == sum(one.estimated for one in before)
    for end in ends[1:]:
        assert not any(one.opened_at <= end <= one.ended_at + CALM_SECONDS for one in slots)


def test_a_rough_span_counts_by_how_far_an_attempt_can_have_been() -> None:
    whole = slot(110, 120, 10, 4)
    half = slot(190, 210, 100, 50, first_at=192.0)
    span = rough_span(START, mark(200.0, 110, 26), [whole, half, slot(250, 260, 7, 7), slot(10, 20, 7, 7)])
    assert (span.prompt_tokens, span.output_tokens) == (110, 26)
    assert (span.slack_prompt, span.slack_output) == (0, 50)


def test_an_estimate_in_a_rough_span_may_be_off() -> None:
    span = rough_span(START, mark(200.0), [slot(110, 120, 10, 4, estimated=True)])
    assert (span.slack_prompt, span.slack_output, span.estimated) == (10 + PER_ESTIMATE, 4 + PER_ESTIMATE, 1)


def test_a_prompt_whose_first_token_comes_after_the_end_is_not_counted() -> None:
    before, after = slot(190, 220, 100, 10, first_at=195.0), slot(190, 220, 1_000, 10, first_at=205.0)
    about, unknown = slot(190, 220, 2_000, 10, first_at=200.5), slot(190, 220, 4_000, 10)
    span = rough_span(START, mark(200.0), [before, after, about, unknown])
    assert (span.prompt_tokens, span.slack_prompt) == (100, 6_000)


def test_what_is_left_is_the_engines_surplus() -> None:
    span = Span(START, mark(200.0, 10, 5), 8, 8, 1, -1)
    assert (span.left_prompt, span.left_output) == (1, -2)
