"""The breaker's life: closed, open, one trial at a time, closed again or open for longer."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.routing.breaker import FAILURES_TO_TRIP, FIRST_PAUSE, LONGEST_PAUSE, TRANSITIONS, Breaker


def tripped(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_TRIP):
        assert breaker.allows(now)
        breaker.failed(now, trial=False)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = tripped()
    assert breaker.state == "open"
    assert not breaker.allows(FIRST_PAUSE / 2)


def test_a_success_between_them_does_not() -> None:
    breaker = Breaker()
    for number in range(5 * FAILURES_TO_TRIP):
        if number % FAILURES_TO_TRIP == FAILURES_TO_TRIP - 1:
            breaker.succeeded()
        else:
            breaker.failed(0.0, trial=False)
    assert breaker.state == "closed"


def test_after_the_pause_one_trial_is_made_at_a_time() -> None:
    breaker = tripped()
    assert not breaker.began(FIRST_PAUSE / 2)  # nobody else was left: no trial, just an attempt
    assert breaker.allows(FIRST_PAUSE)
    assert breaker.began(FIRST_PAUSE)
    assert (breaker.state, breaker.allows(FIRST_PAUSE)) == ("half_open", False)
    assert not breaker.began(FIRST_PAUSE)
    breaker.left_open()
    assert breaker.allows(FIRST_PAUSE)
    assert breaker.began(FIRST_PAUSE)


def test_a_trial_that_succeeds_closes_it_and_all_is_forgotten() -> None:
    breaker = tripped()
    assert breaker.began(FIRST_PAUSE)
    breaker.succeeded()
    assert breaker.state == "closed"
    for _ in range(FAILURES_TO_TRIP - 1):
        breaker.failed(2.0, trial=False)
    assert breaker.state == "closed"


def test_each_trial_that_fails_doubles_the_pause_up_to_a_bound() -> None:
    breaker, now, pause = tripped(), 0.0, FIRST_PAUSE
    for _ in range(10):
        now += pause
        assert breaker.began(now)
        breaker.failed(now, trial=True)
        assert breaker.state == "open"
        pause = min(LONGEST_PAUSE, 2 * pause)
        assert not breaker.allows(now + 0.99 * pause)
        assert breaker.allows(now + pause)


def test_a_trial_that_fails_when_another_has_closed_it_is_one_failure_like_any() -> None:
    breaker = tripped()
    assert breaker.began(FIRST_PAUSE)
    breaker.succeeded()
    breaker.failed(FIRST_PAUSE, trial=True)
    assert breaker.state == "closed"


def test_the_end_of_an_earlier_attempt_says_nothing_about_the_trial() -> None:
    breaker = tripped()
    assert breaker.began(FIRST_PAUSE)
    breaker.failed(FIRST_PAUSE, trial=False)
    assert (breaker.state, breaker.allows(FIRST_PAUSE)) == ("half_open", False)


class Life(RuleBasedStateMachine):
    """Whatever attempts begin and end in whatever order, every move is in the table and a healthy worker gets back."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.attempts: list[bool] = []  # under way: whether it is the trial

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def begin(self) -> None:
        allowed = self.breaker.allows(self.now)
        closed = self.breaker.state == "closed"
        trial = self.breaker.began(self.now)
        assert trial == (allowed and not closed)
        self.attempts.append(trial)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), how=st.sampled_from(["failed", "succeeded", "nothing"]))
    def end(self, data: st.DataObject, how: str) -> None:
        trial = self.attempts.pop(data.draw(st.integers(0, len(self.attempts) - 1)))
        if how == "failed":
            self.breaker.failed(self.now, trial=trial)
        elif how == "succeeded":
            self.breaker.succeeded()
            self.attempts = [False] * len(self.attempts)  # a trial of before is none of now
        elif trial:
            self.breaker.left_open()

    @invariant()
    def at_most_one_trial(self) -> None:
        assert sum(self.attempts) <= 1

    @invariant()
    def never_shut_for_ever(self) -> None:
        if not any(self.attempts):
            assert self.breaker.allows(self.now + LONGEST_PAUSE)


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase


def test_the_table_leads_everywhere_and_nowhere_else() -> None:
    states = {state for state, _ in TRANSITIONS}
    assert {"closed", "open", "half_open"} == states == set(TRANSITIONS.values())
