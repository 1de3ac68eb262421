"""Arrival times."""

from __future__ import annotations

from itertools import pairwise

import pytest

from loadtests.schedule import poisson, uniform


def test_uniform_is_evenly_spaced_and_stops_in_time() -> None:
    assert uniform(4, 1.0) == [0.0, 0.25, 0.5, 0.75]


def test_poisson_has_the_rate_and_the_variance_of_independent_arrivals() -> None:
    times = poisson(1000, 20.0, seed=3)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(0.001, rel=0.03)
    assert variance == pytest.approx(mean**2, rel=0.1)  # exponential gaps: the deviation equals the mean
    assert times == sorted(times)
    assert times[-1] < 20.0


def test_a_seed_repeats_itself_and_another_does_not() -> None:
    assert poisson(50, 2.0, seed=1) == poisson(50, 2.0, seed=1)
    assert poisson(50, 2.0, seed=1) != poisson(50, 2.0, seed=2)
