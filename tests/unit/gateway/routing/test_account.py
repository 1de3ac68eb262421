"""What an attempt holds of a worker while it lasts, by a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.usage import Usage
from gateway.routing.account import Place
from gateway.routing.types import Step, WorkerView
from gateway.table import Candidate
from tests.unit.gateway.routing.tables import view


def place(on: WorkerView, prompt_tokens: int, now: float) -> Place:
    return Place(Step(on, Candidate("chat", "a"), "chat", 0.0, 0.0, 0.0), prompt_tokens, now)


def test_a_place_is_taken_at_dispatch_stands_before_others_until_its_first_token_and_is_given_back() -> None:
    worker = view()
    one, two = place(worker, 100, 1.0), place(worker, 7, 1.5)
    assert (worker.inflight, worker.pending_tokens) == (2, 107)
    one.first_token(2.0)
    assert (worker.inflight, worker.pending_tokens, one.first_token_at) == (2, 7, 2.0)
    one.leave(3.0, Usage(100, 0, 20))
    two.leave(4.0, None)
    assert (worker.inflight, worker.pending_tokens) == (0, 0)


def test_a_first_token_comes_once() -> None:
    worker = view()
    one = place(worker, 100, 1.0)
    one.first_token(2.0)
    measured = worker.seconds_per_prompt_token
    one.first_token(50.0)
    assert (one.first_token_at, worker.seconds_per_prompt_token) == (2.0, measured)


def test_the_course_of_an_attempt_says_how_fast_the_worker_is() -> None:
    worker = view()
    one = place(worker, 100, 1.0)
    one.first_token(2.0)
    one.leave(6.0, Usage(100, 0, 20))
    assert worker.seconds_per_prompt_token == pytest.approx(0.01)
    assert worker.seconds_per_output_token == pytest.approx(0.2)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 10**6), st.sampled_from(["take", "show", "leave"]))))
def test_when_all_have_left_nothing_is_held(events: list[tuple[int, int, str]]) -> None:
    worker = view()
    held: dict[int, Place] = {}
    now = 0.0
    for who, tokens, event in events:
        now += 0.25
        if event == "take" and who not in held:
            held[who] = place(worker, tokens, now)
        elif event == "show" and who in held:
            held[who].first_token(now)
        elif event == "leave" and who in held:
            held.pop(who).leave(now, Usage(tokens, 0, 2) if tokens % 2 else None)
        assert worker.inflight == len(held)
        assert worker.pending_tokens == sum(each.prompt_tokens for each in held.values() if each.first_token_at is None)
    for each in held.values():
        each.leave(now, None)
    assert (worker.inflight, worker.pending_tokens) == (0, 0)
