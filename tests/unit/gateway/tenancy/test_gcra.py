"""GCRA in virtual time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tenancy import gcra

SECOND = 1_000_000_000
NOON = 1_790_000_000 * SECOND

limits = st.integers(1, 5_000)
gaps = st.lists(st.integers(0, 20 * SECOND), max_size=200)


def admitted(gaps, per_minute):
    """The times at which requests that arrive with these gaps are let in."""
    tat, now, times = 0, NOON, []
    for gap in gaps:
        now += gap
        if gcra.wait(tat, per_minute, now) == 0:
            tat = gcra.advance(tat, per_minute, now)
            times.append(now)
    return times


@settings(deadline=None)
@given(gaps=gaps, per_minute=limits)
def test_no_span_of_time_lets_in_more_than_the_burst_and_the_rate(gaps, per_minute):
    times = admitted(gaps, per_minute)
    for first in range(len(times)):
        for last in range(first, len(times)):
            span = times[last] - times[first]
            assert last - first + 1 <= per_minute + span // gcra.interval(per_minute)


@given(per_minute=limits)
def test_the_interval_never_makes_the_rate_exceed_the_limit(per_minute):
    assert gcra.MINUTE <= gcra.interval(per_minute) * per_minute < gcra.MINUTE + per_minute


@given(per_minute=limits)
def test_an_idle_tenant_has_its_whole_minute_at_once_and_not_one_more(per_minute):
    assert len(admitted([0] * (per_minute + 5), per_minute)) == per_minute


@settings(deadline=None)
@given(per_minute=st.integers(1, 600))
def test_who_always_wants_more_gets_the_whole_rate(per_minute):
    tat, now = 0, NOON
    for _ in range(3 * per_minute):
        now += gcra.wait(tat, per_minute, now)
        tat = gcra.advance(tat, per_minute, now)
    assert now - NOON == 2 * per_minute * gcra.interval(per_minute)


@given(gaps=gaps, per_minute=limits)
def test_the_wait_is_exactly_how_long_to_wait(gaps, per_minute):
    tat, now = 0, NOON
    for gap in gaps:
        now += gap
        wait = gcra.wait(tat, per_minute, now)
        if wait:
            assert gcra.wait(tat, per_minute, now + wait - 1) == 1
            assert gcra.wait(tat, per_minute, now + wait) == 0
            now += wait
        tat = gcra.advance(tat, per_minute, now)


@given(gaps=gaps, per_minute=limits)
def test_what_remains_can_be_had(gaps, per_minute):
    tat, now = 0, NOON
    for gap in gaps:
        now += gap
        left = gcra.remaining(tat, per_minute, now)
        assert 0 <= left <= per_minute
        assert (left > 0) == (gcra.wait(tat, per_minute, now) == 0)
        if left:
            tat = gcra.advance(tat, per_minute, now)
            assert gcra.remaining(tat, per_minute, now) == left - 1


@pytest.mark.parametrize("hours", [1, 1_000])
def test_a_clock_set_back_costs_at_most_a_minute(hours):
    tat = NOON
    for _ in range(10):
        tat = gcra.advance(tat, 10, NOON)
    earlier = NOON - hours * 3600 * SECOND
    assert gcra.wait(tat, 10, earlier) == gcra.interval(10)
    assert gcra.remaining(tat, 10, earlier) == 0


def test_a_changed_limit_keeps_the_used_part_of_the_minute():
    tat = NOON
    for _ in range(50):
        tat = gcra.advance(tat, 100, NOON)
    assert gcra.remaining(tat, 1_000, NOON) == 500
    assert gcra.remaining(tat, 10, NOON) == 5
