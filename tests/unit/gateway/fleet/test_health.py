"""The health table: complete, and what it promises."""

from __future__ import annotations

from itertools import product
from typing import get_args

from gateway.fleet.health import TRANSITIONS, Event, State


def after(*events: Event, start: State = "down") -> State:
    state = start
    for event in events:
        state = TRANSITIONS[state, event]
    return state


def test_every_event_has_a_transition_in_every_state() -> None:
    assert set(TRANSITIONS) == set(product(get_args(State), get_args(Event)))


def test_one_failed_probe_does_not_take_a_worker_down_and_two_in_a_row_do() -> None:
    assert after("passed", "failed") == "doubtful"
    assert after("passed", "failed", "passed", "failed") == "doubtful"
    assert after("passed", "failed", "failed") == "down"


def test_a_lost_request_takes_it_down_at_once() -> None:
    assert after("passed", "lost") == "down"
    assert after("passed", "failed", "lost") == "down"


def test_only_a_probe_brings_a_worker_up() -> None:
    assert {event for (state, event), then in TRANSITIONS.items() if state == "down" and then != "down"} == {"passed"}
