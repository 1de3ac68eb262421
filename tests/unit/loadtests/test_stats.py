"""Percentiles, their uncertainty, and what repeated runs agree on."""

from __future__ import annotations

import math
import random

import pytest

from loadtests.stats import Latency, Spread, differences, percentile, percentile_interval, ratios


def test_percentiles_of_a_known_sequence() -> None:
    ordered = [float(n) for n in range(1, 102)]  # 1 … 101: the q-quantile is 1 + 100 q
    assert [percentile(ordered, q) for q in (0.0, 0.5, 0.9, 0.99, 1.0)] == [1, 51, 91, 100, 101]
    assert percentile([1.0, 2.0], 0.25) == 1.25
    assert percentile([7.0], 0.99) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_the_interval_holds_the_true_quantile_as_often_as_it_says() -> None:
    dice = random.Random(1)
    hits = 0
    for _ in range(400):
        low, high = percentile_interval(sorted(dice.random() for _ in range(500)), 0.9)
        hits += low <= 0.9 <= high
    assert 0.92 <= hits / 400 <= 0.99


def test_the_interval_never_leaves_the_samples() -> None:
    assert percentile_interval([1.0, 2.0, 3.0], 0.99) == (2.0, 3.0)
    assert all(math.isnan(bound) for bound in percentile_interval([], 0.5))


def test_latency_of_nothing_is_not_a_number() -> None:
    nothing = Latency.of([])
    assert nothing.count == 0
    assert math.isnan(nothing.p99)
    assert nothing.document() is None  # JSON has no word for it


def test_every_percentile_has_its_interval() -> None:
    latency = Latency.of([n / 1000 for n in range(1000)])
    for name in ("p50", "p90", "p99", "p999"):
        low, high = latency.intervals[name]
        assert low <= getattr(latency, name) <= high
    assert latency.intervals["p50"][1] - latency.intervals["p50"][0] < 0.08


def test_latency_does_not_mind_the_order() -> None:
    assert Latency.of([3.0, 1.0, 2.0]) == Latency.of([1.0, 2.0, 3.0])
    assert Latency.of([1.0, 2.0, 3.0]).p50 == 2.0
    assert Latency.of([1.0, 2.0, 3.0]).maximum == 3.0


def test_spread_is_median_and_range() -> None:
    spread = Spread.of([10.0, 30.0, 11.0, math.nan])
    assert (spread.median, spread.low, spread.high, spread.runs) == (11.0, 10.0, 30.0, 3)
    assert spread.noise == pytest.approx(10 / 11)
    assert Spread.of([math.nan]).runs == 0


def test_ratios_are_taken_run_by_run() -> None:
    assert ratios([10.0, 40.0], [20.0, 80.0]) == [0.5, 0.5]
    assert math.isnan(ratios([1.0], [0.0])[0])
    assert ratios([1.0, 2.0], [1.0]) == [1.0]


def test_differences_are_too() -> None:
    assert differences([3.0, 10.0], [1.0, 2.0]) == [2.0, 8.0]
    assert math.isnan(differences([math.nan], [1.0])[0])
