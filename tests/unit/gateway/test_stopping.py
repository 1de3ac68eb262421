"""Signals are wishes: once to end, once more to end now."""

from __future__ import annotations

import signal

from gateway.stopping import SAME_WISH_SECONDS, Stop


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_signal_asks() -> None:
    stop = Stop(Clock())
    assert not stop.asked.is_set()
    stop(signal.SIGTERM, None)
    assert (stop.asked.is_set(), stop.hurried.is_set()) == (True, False)


def test_the_same_wish_said_twice_is_one() -> None:
    clock = Clock()
    stop = Stop(clock)
    stop()
    clock.now += SAME_WISH_SECONDS * 0.9
    stop()
    assert not stop.hurried.is_set()


def test_a_second_wish_is_in_a_hurry() -> None:
    clock = Clock()
    stop = Stop(clock)
    stop()
    clock.now += SAME_WISH_SECONDS
    stop()
    assert stop.hurried.is_set()
