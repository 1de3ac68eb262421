"""Percentiles of what was seen of late."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.latency import FEWEST, Latencies

ERROR = 2 ** (1 / 8)  # a bucket's width


def seen(values: list[float]) -> Latencies:
    latencies = Latencies()
    for value in values:
        latencies.observe(value)
    return latencies


def test_too_few_say_nothing() -> None:
    assert seen([0.1] * (FEWEST - 1)).percentile(95) is None
    assert seen([0.1] * FEWEST).percentile(95) is not None


@given(st.lists(st.floats(0.002, 500), min_size=FEWEST, max_size=300), st.integers(1, 99))
def test_it_is_within_a_bucket_of_the_exact_one(values: list[float], percent: int) -> None:
    exact = sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]
    found = seen(values).percentile(percent)
    assert found is not None
    assert exact / 1.000001 <= found <= exact * ERROR * 1.000001


def test_extremes_have_a_place() -> None:
    assert seen([0.0] * FEWEST).percentile(50) == pytest.approx(0.001 * ERROR)
    assert seen([1e9] * FEWEST).percentile(50) == pytest.approx(0.001 * 2**20)


def test_what_is_long_past_fades() -> None:
    latencies = seen([10.0] * 1000)
    dice = random.Random(1)
    for _ in range(5000):
        latencies.observe(dice.uniform(0.1, 0.2))
    assert (latencies.percentile(95) or 9) < 0.25
