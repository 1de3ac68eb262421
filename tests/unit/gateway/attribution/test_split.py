"""Splitting: no nano-USD is lost or made, whatever the weights."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.attribution.split import (
    IDLE,
    PROBE,
    UNOBSERVED,
    Key,
    Policy,
    as_integers,
    cost_until,
    largest_remainder,
    split,
)

COSTS = st.integers(0, 10**15)
WEIGHTS = st.lists(st.floats(0, 1e12), min_size=1, max_size=20)
POLICIES = st.sampled_from(
    [Policy("own_line"), Policy("by_usage"), Policy("by_reservation", {"t0": 0.3, "t1": 0.2}), Policy("by_reservation")]
)


def users(*weights: float) -> dict[Key, float]:
    return {Key(i + 1, 1, f"t{i}"): weight for i, weight in enumerate(weights)}


@given(COSTS, st.lists(st.integers(0, 10**20), min_size=1, max_size=30))
def test_parts_sum_and_none_is_off_by_a_unit(total, weights):
    parts = largest_remainder(total, weights)
    assert sum(parts) == total
    if whole := sum(weights):
        assert all(abs(part - Fraction(total * weight, whole)) < 1 for part, weight in zip(parts, weights, strict=True))


@given(COSTS, st.integers(0, 60 * 10**9), st.integers(1, 60 * 10**9), WEIGHTS, POLICIES, st.booleans())
def test_a_window_is_shared_out_to_the_nano_usd(cost, busy, length, weights, policy, observed):
    shares = split(cost, busy, length, users(*weights), policy, observed=observed)
    assert sum(shares.values()) == cost
    assert all(share > 0 for share in shares.values())


@given(st.integers(0, 10**12), st.lists(st.integers(0, 2 * 10**18), min_size=2, max_size=20).map(sorted))
def test_cuts_in_time_lose_nothing(hourly, cuts):
    parts = [cost_until(hourly, until) - cost_until(hourly, since) for since, until in itertools.pairwise(cuts)]
    assert sum(parts) == cost_until(hourly, cuts[-1]) - cost_until(hourly, cuts[0])
    assert all(part >= 0 for part in parts)


def test_a_whole_hour_costs_the_hourly_rate():
    assert cost_until(2_990_000_003, 4 * 3_600 * 10**9) - cost_until(2_990_000_003, 3_600 * 10**9) == 3 * 2_990_000_003


def test_idle_time_has_its_own_line_or_is_paid_by_use_or_by_reservation():
    used = users(3.0, 1.0)
    a, b = sorted(used)
    assert split(800, 1, 2, used, Policy()) == {a: 300, b: 100, Key(0, 0, IDLE): 400}
    assert split(800, 1, 2, used, Policy("by_usage")) == {a: 600, b: 200}
    reserved = split(800, 1, 2, used, Policy("by_reservation", {"t1": 0.25, "other": 0.5}))
    assert reserved == {
        a: 300, b: 100, Key(0, 0, IDLE): 100, Key(0, 0, "t1"): 100, Key(0, 0, "other"): 200,
    }  # fmt: skip


def test_reservations_beyond_everything_are_taken_in_proportion():
    assert split(900, 0, 1, {}, Policy("by_reservation", {"a": 1.0, "b": 0.5})) == {
        Key(0, 0, "a"): 600, Key(0, 0, "b"): 300,
    }  # fmt: skip


def test_probes_pay_for_what_they_used_and_for_no_idle_time():
    probe, used = Key(9, 1, PROBE), users(1.0)
    assert split(800, 1, 2, {**used, probe: 3.0}, Policy("by_usage")) == {Key(1, 1, "t0"): 500, probe: 300}
    assert split(800, 1, 2, {probe: 3.0}, Policy("by_usage")) == {probe: 400, Key(0, 0, IDLE): 400}


def test_nobody_used_anything():
    assert split(800, 2, 2, {}, Policy("by_usage")) == {Key(0, 0, IDLE): 800}
    assert split(800, 2, 2, users(0.0), Policy()) == {Key(0, 0, IDLE): 800}


def test_what_nobody_saw_is_a_line_of_its_own():
    assert split(800, 1, 4, users(1.0), Policy("by_usage"), observed=False) == {
        Key(1, 1, "t0"): 200, Key(0, 0, UNOBSERVED): 600,
    }  # fmt: skip


@pytest.mark.parametrize("odd", [float("nan"), -1.0])
def test_odd_weights_count_as_nothing(odd):
    assert as_integers([1.0, odd])[1] == 0
    assert as_integers([float("inf"), 1.0]) == [0, 0]
