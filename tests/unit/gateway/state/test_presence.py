"""Who shares the limits, as each process says it of itself."""

from __future__ import annotations

from gateway.state.limits import FRESH_SECONDS, PRESENT_SECONDS, presence

NOW = 1_790_000_000.0


def test_alone_there_is_nobody_to_wait_for() -> None:
    assert presence({}, "a:4000.0/1", NOW) == (1, False, True)
    assert presence({"a:4000.0/1": NOW - 9}, "a:4000.0/1", NOW) == (1, True, True)


def test_others_that_are_well_are_company() -> None:
    before = {"a:4000.0/1": NOW - 1, "b:4000.0/2": NOW - FRESH_SECONDS - 1, "c:4000.0/3": NOW - PRESENT_SECONDS - 1}
    assert presence(before, "d:4000.0/4", NOW) == (3, False, True)


def test_others_that_are_silent_may_be_alone() -> None:
    assert presence({"a:4000.0/1": NOW - FRESH_SECONDS - 1}, "b:4000.0/2", NOW) == (2, False, False)


def test_one_that_was_killed_is_nobody_to_wait_for_in_its_own_place() -> None:
    before = {"a:4000.0/1": NOW - FRESH_SECONDS - 1}
    assert presence(before, "a:4000.0/2", NOW) == (1, False, True)
    assert presence(before, "a:4000.1/2", NOW) == (2, False, False)


def test_a_name_without_a_place_is_nobody_elses() -> None:
    assert presence({"p1": NOW}, "p2", NOW) == (2, False, True)
