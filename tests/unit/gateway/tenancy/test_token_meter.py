"""Reserve and settle in virtual time."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.tenancy.token_meter import MINUTE, TokenMeter

SECOND = 1_000_000_000
NOON = 1_790_000_000 * SECOND


def test_a_reservation_holds_its_room_until_it_is_settled():
    meter = TokenMeter()
    assert meter.wait(800, 1_000, NOON) == 0
    meter.reserve(800)
    assert meter.wait(300, 1_000, NOON + 10 * MINUTE) > 0
    meter.settle(800, 100, NOON + 10 * MINUTE)
    assert meter.wait(900, 1_000, NOON + 10 * MINUTE) == 0
    assert meter.wait(901, 1_000, NOON + 10 * MINUTE) == MINUTE // 1_000


def test_what_was_used_drains_at_the_limits_rate():
    meter = TokenMeter()
    assert meter.wait(600, 600, NOON) == 0
    meter.reserve(600)
    meter.settle(600, 600, NOON)
    assert meter.remaining(600, NOON) == 0
    assert meter.full_in() == MINUTE
    assert meter.remaining(600, NOON + SECOND) == 10
    assert meter.remaining(600, NOON + 59 * SECOND) == 590
    assert meter.remaining(600, NOON + 5 * MINUTE) == 600


def test_an_output_beyond_its_reservation_makes_a_debt():
    meter = TokenMeter()
    assert meter.wait(100, 600, NOON) == 0
    meter.reserve(100)
    meter.settle(100, 1_200, NOON)
    assert meter.remaining(600, NOON) == 0
    assert meter.wait(1, 600, NOON) == MINUTE + MINUTE // 600
    assert meter.full_in() == 2 * MINUTE


def test_a_clock_set_back_does_not_stop_the_draining():
    meter = TokenMeter()
    meter.settle(0, 600, NOON)
    earlier = NOON - 3600 * SECOND
    assert meter.wait(1, 600, earlier) == MINUTE // 600
    assert meter.remaining(600, earlier + 30 * SECOND) == 300


def test_no_second_drains_twice_for_callers_that_are_late():
    """A request settles, and asks, with the time it began."""
    meter = TokenMeter()
    assert meter.wait(600, 600, NOON) == 0
    meter.reserve(600)
    meter.settle(600, 600, NOON)
    assert meter.remaining(600, NOON + 30 * SECOND) == 300
    meter.settle(0, 0, NOON - 100 * SECOND)
    assert meter.remaining(600, NOON) == 300
    assert meter.wait(300, 600, NOON - 20 * SECOND) == 0
    assert meter.remaining(600, NOON + 40 * SECOND) == 400


def test_a_changed_limit_keeps_the_tokens_that_were_used():
    meter = TokenMeter()
    assert meter.wait(600, 600, NOON) == 0
    meter.reserve(600)
    meter.settle(600, 600, NOON)
    assert meter.remaining(6_000, NOON) == 5_400
    assert meter.remaining(6_000, NOON + SECOND) == 5_500


steps = st.lists(
    st.tuples(
        st.integers(0, 90 * SECOND),  # time that passes
        st.integers(0, 1_200),  # estimate of the next request
        st.integers(0, 40),  # which running request ends, if there are so many
        st.integers(0, 1_000),  # thousandths of its estimate that it used
    ),
    max_size=120,
)


@settings(deadline=None)
@given(steps=steps, per_minute=st.integers(1, 2_000))
def test_no_span_of_time_uses_more_than_the_limit_and_its_rate(steps, per_minute):
    meter, now, running, used = TokenMeter(), NOON, [], []
    for passed, estimate, which, share in steps:
        now += passed
        if meter.wait(estimate, per_minute, now) == 0:
            meter.reserve(estimate)
            running.append(estimate)
            assert meter.reserved * MINUTE + meter.committed <= per_minute * MINUTE
        if which < len(running):
            reserved = running.pop(which)
            meter.settle(reserved, reserved * share // 1_000, now)
            used.append((now, reserved * share // 1_000))
        assert meter.reserved == sum(running)
        assert meter.reserved * MINUTE + meter.committed <= per_minute * MINUTE
    for first in range(len(used)):
        total = 0
        for last in range(first, len(used)):
            total += used[last][1]
            assert total * MINUTE <= per_minute * (MINUTE + used[last][0] - used[first][0])


@given(
    settled=st.lists(st.integers(0, 5_000), max_size=20), wanted=st.integers(0, 2_000), per_minute=st.integers(1, 2_000)
)
def test_the_wait_is_exactly_how_long_to_wait(settled, wanted, per_minute):
    assume(wanted <= per_minute)
    meter = TokenMeter()
    for used in settled:
        meter.settle(0, used, NOON)
    wait = meter.wait(wanted, per_minute, NOON)
    if wait:
        assert meter.wait(wanted, per_minute, NOON + wait - 1) > 0
    assert meter.wait(wanted, per_minute, NOON + wait) == 0


def test_the_limit_is_used_to_the_full():
    """A thousand greedy requests of 100 tokens on 600 tokens a minute: nothing of the rate is lost."""
    meter, now, total = TokenMeter(), NOON, 0
    for _ in range(1_000):
        now += meter.wait(100, 600, now)
        meter.reserve(100)
        meter.settle(100, 100, now)
        total += 100
    assert total == 600 + 600 * (now - NOON) // MINUTE
