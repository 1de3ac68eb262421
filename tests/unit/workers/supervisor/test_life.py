"""The life of a worker: every path through the table keeps its promises."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.supervisor.life import (
    TABLE,
    Action,
    Event,
    ImpossibleTransition,
    Life,
    Moment,
    Policy,
    State,
    step,
    wait_before_try,
)

POLICY = Policy(
    start_within=100, first_wait=1, longest_wait=30, healthy_after=60, first_tries=3, tries=5
)  # short enough to walk through


def moment(now: float = 0.0, chance: float = 0.5, reason: str = "", policy: Policy = POLICY) -> Moment:
    return Moment(now, chance, policy, reason)


def walk(*events: Event, life: Life | None = None) -> Life:
    life = life or Life()
    for event in events:
        life, _ = step(life, event, moment(life.since))
    return life


chances = st.floats(0, 1, exclude_max=True)
paces = st.floats(0, 200)


@given(st.lists(st.tuples(st.integers(0, 5), paces, chances), max_size=200))
def test_any_life_keeps_its_promises(choices: list[tuple[int, float, float]]) -> None:
    """Walks at random through what can happen, beside a model of the process that the actions start and end."""
    life, now = Life(), 0.0
    alive = ended = False
    failures_in_a_row = 0
    for choice, pace, chance in choices:
        possible = [event for state, event in TABLE if state is life.state]
        if life.state is State.STARTING and life.deadline is None:
            possible = [Event.DIED, Event.STOP]  # it was late and is being ended
        if not possible:
            assert life.state is State.FAILED
            return
        event = possible[choice % len(possible)]
        now += pace
        before = life
        life, action = step(life, event, moment(now, chance, "why"))

        if event is Event.DIED:
            assert alive
            alive = ended = False
            failures_in_a_row += 1
        if action is Action.SPAWN:
            assert not alive, "two engines of one worker at once"
            alive = True
        if action is Action.END:
            assert alive
            ended = True
        assert alive == (life.state in (State.STARTING, State.READY, State.STOPPING))
        assert ended or life.state is not State.STOPPING
        if life.state is State.BACKING_OFF:
            assert life.deadline is not None
            assert POLICY.first_wait / 2 <= life.deadline - now <= POLICY.longest_wait
            assert life.failures < POLICY.tries
        if life.state is State.READY and before.state is not State.READY:
            assert life.has_answered
        assert life.since <= now


@given(st.lists(st.sampled_from([Event.START, Event.ANSWERED, Event.DIED, Event.DUE, Event.LATE]), max_size=40))
def test_stop_always_comes_to_an_end(events: list[Event]) -> None:
    life = Life()
    for event in events:
        if (life.state, event) in TABLE:
            life, _ = step(life, event, moment())
    if life.state is State.FAILED:
        return
    life, action = step(life, Event.STOP, moment())
    if action is Action.END:
        life, _ = step(life, Event.DIED, moment())
    assert life.state is State.STOPPED


@given(st.integers(1, 10_000), chances)
def test_waits_grow_and_stay_bounded(failures: int, chance: float) -> None:
    wait = wait_before_try(failures, moment(chance=chance))
    assert 0.5 <= wait <= 30
    assert wait_before_try(failures + 1, moment(chance=chance)) >= wait


def test_the_upper_half_of_a_wait_is_chance() -> None:
    assert [wait_before_try(3, moment(chance=chance)) for chance in (0.0, 0.5)] == [2.0, 3.0]


def test_one_that_never_answered_is_given_up_after_its_first_tries() -> None:
    life = walk(Event.START, Event.DIED, Event.DUE, Event.DIED)
    assert life.state is State.BACKING_OFF
    life = walk(Event.DUE, Event.DIED, life=life)
    assert (life.state, life.failures) == (State.FAILED, 3)


def test_one_that_has_answered_gets_more_tries() -> None:
    life = walk(Event.START, Event.ANSWERED, Event.DIED, Event.DUE, Event.DIED, Event.DUE, Event.DIED)
    assert life.state is State.BACKING_OFF
    life = walk(Event.DUE, Event.DIED, Event.DUE, Event.DIED, life=life)
    assert (life.state, life.failures) == (State.FAILED, 5)


@pytest.mark.parametrize(("up_for", "failures"), [(59.9, 2), (60.0, 1)])
def test_earlier_failures_are_forgotten_after_being_up_for_a_while(up_for: float, failures: int) -> None:
    life = walk(Event.START, Event.ANSWERED, Event.DIED, Event.DUE, Event.ANSWERED)
    life, _ = step(life, Event.DIED, moment(life.since + up_for))
    assert life.failures == failures


def test_a_slow_start_does_not_count_as_being_up() -> None:
    life = walk(Event.START, Event.DIED, Event.DUE)
    life, _ = step(life, Event.DIED, moment(life.since + 99))
    assert life.failures == 2


def test_a_late_start_is_ended_and_waits_for_the_end_before_the_next() -> None:
    life, action = step(walk(Event.START), Event.LATE, moment(100, reason="no answer"))
    assert (life.state, life.deadline, action) == (State.STARTING, None, Action.END)
    life, action = step(life, Event.DIED, moment(101))
    assert (life.state, life.reason, action) == (State.BACKING_OFF, "no answer", Action.NOTHING)


def test_a_start_has_a_deadline() -> None:
    life, action = step(Life(), Event.START, moment(7))
    assert (life.deadline, action) == (107, Action.SPAWN)


@pytest.mark.parametrize(
    ("state", "event"), [pair for pair in itertools.product(State, Event) if pair not in TABLE], ids=str
)
def test_what_can_not_happen_is_refused(state: State, event: Event) -> None:
    with pytest.raises(ImpossibleTransition, match=f"{event.value} while {state.value}"):
        step(Life(state=state), event, moment())
