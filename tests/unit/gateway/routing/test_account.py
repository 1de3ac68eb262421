"""What an attempt holds of a worker while it lasts, by a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.usage import Usage
from gateway.routing import scorers
from gateway.routing.account import REUSE_SMOOTHING, Place, forget_rates, learn_capacity, pending_tokens, prompt_rate
from gateway.routing.prefix import BLOCK_TOKENS, FEWEST_BLOCKS, PrefixIndex, Prompt
from gateway.routing.rates import Kin
from gateway.routing.types import Step, WorkerView
from gateway.table import Candidate
from tests.unit.gateway.routing.tables import ask, view


def place(on: WorkerView, prompt_tokens: int, now: float, *, cached_tokens: int = 0, whole: bool = False) -> Place:
    step = Step(on, Candidate("chat", "a"), "chat", 0.0, 0.0, 0.0, cached_tokens=cached_tokens)
    return Place(step, prompt_tokens, now, whole=whole)


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
    one.leave(6.0, Usage(100, 0, 21))
    assert worker.seconds_per_prompt_token == pytest.approx(0.01)
    assert worker.seconds_per_output_token == pytest.approx(0.2)


def test_the_time_between_two_first_tokens_is_what_the_later_prompt_took() -> None:
    worker = view()
    one, two = place(worker, 1000, 0.0), place(worker, 3000, 0.5)
    one.first_token(1.0)
    two.first_token(4.0)
    assert worker.seconds_per_prompt_token == pytest.approx(0.001)


def test_of_the_prompt_in_front_a_part_is_done_that_grows_with_time() -> None:
    worker = view(seconds_per_prompt_token=0.01)
    one = place(worker, 100, 10.0)
    place(worker, 50, 10.2)
    assert [pending_tokens(worker, now) for now in (10.0, 10.5, 11.0, 60.0)] == [150, pytest.approx(100), 50, 50]
    one.leave(12.0, None)
    assert [pending_tokens(worker, now) for now in (12.0, 12.25)] == [50, pytest.approx(25)]


def test_a_worker_that_has_not_answered_is_taken_to_be_like_its_kin() -> None:
    kin = Kin()
    known, unknown = view("w1", kin=kin), view("w2", kin=kin)
    one = place(known, 1000, 0.0)
    one.first_token(10.0)
    one.leave(20.0, Usage(1000, 0, 101))
    assert unknown.seconds_per_prompt_token is None
    assert prompt_rate(unknown) == pytest.approx(0.01)
    assert scorers.decode_seconds(unknown, ask(output_tokens=10), 20.0) == pytest.approx(1.0)


def test_a_worker_that_was_slow_long_ago_gets_another_chance() -> None:
    kin = Kin()
    slow, fast = view("w1", kin=kin), view("w2", kin=kin)
    for at in range(200):
        for worker, seconds in ((slow, 3.0), (fast, 1.0)):
            if worker is fast or at < 20:
                one = place(worker, 1000, 10.0 * at)
                one.first_token(10.0 * at + seconds)
                one.leave(10.0 * at + seconds * 2, Usage(1000, 0, 11))
    forget_rates(slow, 193.0 + 50.0)
    assert prompt_rate(slow) == pytest.approx(0.003)
    forget_rates(slow, 2000.0)
    forget_rates(fast, 2000.0)
    assert prompt_rate(slow) == pytest.approx(0.001, rel=0.01) == prompt_rate(fast)
    assert slow.seconds_per_output_token == pytest.approx(0.1, rel=0.1)
    one = place(slow, 1000, 2000.0)
    one.first_token(2003.0)  # it has not become faster
    assert prompt_rate(slow) == pytest.approx(0.003)


def test_what_is_cached_is_neither_pending_nor_taught() -> None:
    worker = view()
    one = place(worker, 1000, 0.0, cached_tokens=900)
    assert worker.pending_tokens == 100
    one.first_token(1.0)
    assert worker.seconds_per_prompt_token == pytest.approx(0.01)


def test_a_whole_answer_stands_before_others_until_its_first_token_was_due() -> None:
    worker = view(seconds_per_prompt_token=0.01)
    one = place(worker, 100, 0.0, whole=True)
    assert one.due == pytest.approx(1.0)
    two = place(worker, 100, 0.5, whole=True)
    assert (worker.pending_tokens, two.due) == (200, pytest.approx(2.0))
    place(worker, 100, 1.5, whole=True)
    assert worker.pending_tokens == 200


def test_a_whole_answer_is_through_when_a_later_prompt_is() -> None:
    worker = view(seconds_per_prompt_token=0.01)
    one, two = place(worker, 300, 0.0, whole=True), place(worker, 100, 0.0)
    two.first_token(2.0)
    assert (worker.pending_tokens, worker.seconds_per_prompt_token) == (0, pytest.approx(2.0 / 400))
    one.leave(9.0, Usage(300, 0, 50))
    assert worker.pending_tokens == 0


def test_a_whole_answer_of_one_token_is_its_first_even_when_it_was_due_long_ago() -> None:
    worker = view()
    place(worker, 550, 0.0, whole=True)
    late = place(worker, 550, 0.0, whole=True)
    place(worker, 1, 1.0, whole=True)  # both are taken to be through by now
    assert worker.pending_tokens == 1
    late.leave(11.0, Usage(550, 0, 1))
    assert worker.seconds_per_prompt_token == pytest.approx(0.01)


def test_answers_count_by_their_tokens() -> None:
    """A short one, between whose tokens a long prompt went through prefill, says little."""
    worker = view()
    for seconds, tokens in ((10.0, 1001), (1.0, 3)):
        one = place(worker, 1, 0.0)
        one.first_token(0.0)
        one.leave(seconds, Usage(1, 0, tokens))
    assert worker.seconds_per_output_token == pytest.approx(10.7 / 972)
    assert worker.kin.seconds_per_output_token == pytest.approx(10.9 / 992)


def test_the_size_of_a_prefix_cache_shows_in_what_it_had() -> None:
    cache = PrefixIndex().enrol()
    cache.told(1000 * BLOCK_TOKENS)
    cache.insert(range(1000), 0)
    learn_capacity(cache, 1000.0, 950.0)
    assert cache.capacity is None
    learn_capacity(cache, 1000.0, 800.0)
    assert (cache.capacity, len(cache)) == (900, 900)
    learn_capacity(cache, 0.0, 5000.0)
    assert cache.capacity == 910
    for _ in range(20):
        learn_capacity(cache, 0.0, 5000.0)
    assert cache.most == 1000
    for _ in range(100):
        learn_capacity(cache, 1000.0, 0.0)
    assert cache.capacity == FEWEST_BLOCKS


def test_a_worker_that_keeps_less_than_was_predicted_is_believed_less() -> None:
    worker = view()
    place(worker, 1000, 0.0, cached_tokens=800).leave(1.0, Usage(2000, 0, 5))
    assert worker.reuse == 1.0  # it may be that it does not say
    place(worker, 1000, 0.0).leave(1.0, Usage(2000, 16, 5))
    place(worker, 1000, 0.0, cached_tokens=800).leave(1.0, Usage(2000, 800, 5))
    assert worker.reuse == pytest.approx(1.0 - REUSE_SMOOTHING / 2)
    for _ in range(200):
        place(worker, 1000, 0.0, cached_tokens=800).leave(1.0, Usage(2000, 0, 5))
    assert worker.reuse < 0.01


def test_a_prompt_is_in_the_prefix_cache_of_the_worker_it_is_sent_to() -> None:
    index = PrefixIndex()
    worker = view(prefixes=index.enrol())
    step = Step(worker, Candidate("chat", "a"), "chat", 0.0, 0.0, 0.0, prompt=Prompt(None, [1, 2]), root=9)
    Place(step, 600, 0.0)
    assert index.match([1, 2, 3], 9) == {0: 2}


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
