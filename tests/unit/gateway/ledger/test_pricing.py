"""Token prices to the nano-USD, and the meter that shares a worker's time."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.pricing import Meter, gpu_cost, token_cost
from gateway.table import Price

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("prompt", "cached", "output", "cost"),
    [
        (0, 0, 0, 0),
        (1_000_000, 0, 0, 500_000_000),
        (1_000_000, 1_000_000, 0, 100_000_000),
        (0, 0, 1_000_000, 1_500_000_000),
        (1_000, 400, 200, 600 * 500 + 400 * 100 + 200 * 1_500),
        (10, 25, 0, 10 * 100),  # an engine that counts more cached than prompt tokens
    ],
)
def test_cached_tokens_are_a_part_of_the_prompt(prompt, cached, output, cost):
    price = Price(input=500_000_000, cached_input=100_000_000, output=1_500_000_000)
    assert token_cost(price, prompt, cached, output) == cost


@pytest.mark.parametrize(("tokens", "cost"), [(1, 0), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2)])
def test_a_cost_is_rounded_half_up(tokens, cost):
    """At a quarter of a nano-USD per token."""
    assert token_cost(Price(input=250_000, cached_input=0, output=0), tokens, 0, 0) == cost


def test_a_cost_is_rounded_once():
    assert token_cost(Price(input=250_000, cached_input=250_000, output=250_000), 2, 1, 1) == 1


counts = st.integers(0, 10**7)
rates = st.integers(0, 10**12)
prices = st.builds(Price, input=rates, cached_input=rates, output=rates)


@given(price=prices, prompt=counts, cached=counts, output=counts)
def test_a_cost_is_within_half_a_nanousd_of_the_truth(price, prompt, cached, output):
    cached = min(cached, prompt)
    truth = Fraction((prompt - cached) * price.input + cached * price.cached_input + output * price.output, 1_000_000)
    assert Fraction(-1, 2) < token_cost(price, prompt, cached, output) - truth <= Fraction(1, 2)


@given(nanoseconds=st.integers(0, 10**15), hourly=st.integers(0, 10**12))
def test_worker_time_is_within_half_a_nanousd_of_the_truth(nanoseconds, hourly):
    truth = Fraction(nanoseconds * hourly, 3_600 * SECOND)
    assert Fraction(-1, 2) < gpu_cost(nanoseconds, hourly) - truth <= Fraction(1, 2)


def test_an_hour_costs_the_hourly_rate():
    assert gpu_cost(3_600 * SECOND, 1_100_000_000) == 1_100_000_000


def test_alone_a_request_has_the_whole_time():
    meter = Meter()
    token = meter.enter(10.0)
    assert meter.leave(token, 12.5) == 2_500_000_000


def test_two_at_a_time_share_equally():
    meter = Meter()
    first = meter.enter(0.0)
    second = meter.enter(1.0)  # 1 s alone
    assert meter.leave(first, 3.0) == 2 * SECOND  # 1 s alone and half of 2 s
    assert meter.leave(second, 4.0) == 2 * SECOND  # half of 2 s and 1 s alone
    assert meter.busy == 4 * SECOND


def test_idle_time_belongs_to_nobody():
    meter = Meter()
    assert meter.leave(meter.enter(0.0), 1.0) == SECOND
    assert meter.leave(meter.enter(100.0), 101.0) == SECOND
    assert meter.busy == 2 * SECOND


def test_the_remainder_goes_to_the_last():
    meter = Meter()
    tokens = [meter.enter(0.0) for _ in range(3)]
    assert [meter.leave(token, 1.0) for token in tokens] == [333_333_333, 333_333_333, 333_333_334]


def test_leaving_an_empty_meter_is_an_error():
    meter = Meter()
    token = meter.enter(0.0)
    meter.leave(token, 1.0)
    with pytest.raises(ValueError, match="left it twice"):
        meter.leave(token, 2.0)


TICK = 1_953_125  # nanoseconds in 1/512 s: exact as a float of seconds, and awkward to divide

moves = st.lists(
    st.tuples(
        st.integers(-3, 2_000),  # ticks that pass; a negative one is a caller whose clock was read a little earlier
        st.booleans(),  # one comes, or one leaves
        st.integers(0, 30),  # which one leaves
    ),
    max_size=150,
)


@settings(deadline=None)
@given(moves=moves)
def test_the_shares_sum_to_the_busy_time_exactly_and_each_is_an_equal_one(moves):
    """Against the same shares in exact fractions."""
    meter = Meter()
    now = latest = busy = 0
    running, fair, shares = [], {}, []
    moves = [*moves, *[(1, False, 0)] * len(moves)]  # at the end all leave
    for number, (ticks, comes, which) in enumerate(moves):
        now = max(0, now + ticks)
        if not comes and not running:
            continue
        if now > latest:
            busy += (now - latest) * TICK * bool(running)
            for entry in running:
                fair[entry] += Fraction((now - latest) * TICK, len(running))
            latest = now
        if comes:
            entry = number, meter.enter(now / 512)
            running.append(entry)
            fair[entry] = Fraction(0)
        elif running:
            entry = running.pop(which % len(running))
            shares.append(meter.leave(entry[1], now / 512))
            assert abs(shares[-1] - fair[entry]) < len(moves)
    assert meter.in_flight == 0
    assert sum(shares) == meter.busy == busy
