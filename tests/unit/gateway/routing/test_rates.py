"""Lines learnt from answers: they find the truth, stay sane on noise, and change when the worker does."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.rates import FEW, OUTLIER, Line


def test_it_is_the_prior_until_something_is_observed() -> None:
    line = Line(0.5, 0.01)
    assert (line.intercept, line.slope) == (0.5, 0.01)


def test_answers_of_one_size_scale_the_prior() -> None:
    line = Line(1.0, 0.01)
    for _ in range(50):
        line.observe(100.0, 6.0)  # the prior says 2
    assert line.intercept == pytest.approx(3.0)
    assert line.slope == pytest.approx(0.03)


@given(st.floats(0.0, 0.5), st.floats(1e-5, 1e-2), st.integers(0, 2**32))
def test_answers_of_many_sizes_show_the_line(intercept: float, slope: float, seed: int) -> None:
    line, random = Line(0.0, 1 / 5500), Random(seed)
    for _ in range(100):
        tokens = random.uniform(100, 20_000)
        line.observe(tokens, intercept + slope * tokens)
    assert line.intercept + line.slope * 10_000 == pytest.approx(intercept + slope * 10_000, rel=0.15)


@given(st.integers(0, 2**32))
def test_noise_moves_a_rate_little(seed: int) -> None:
    line, random = Line(0.0, 1 / 5500), Random(seed)
    for _ in range(200):
        tokens = random.uniform(100, 20_000)
        line.observe(tokens, tokens * 0.001 * random.uniform(0.5, 1.5))
    assert line.intercept + line.slope * 10_000 == pytest.approx(10.0, rel=0.5)


def test_a_worker_that_becomes_slower_is_known_after_some_answers() -> None:
    line = Line(0.0, 1 / 5500)
    for _ in range(100):
        line.observe(1000.0, 1.0)
    for _ in range(20):
        line.observe(1000.0, 3.0)
    assert 2.0 < line.slope * 1000 < 3.0


def test_one_answer_out_of_a_thousand_times_the_time_counts_as_ten() -> None:
    line = Line(0.0, 1 / 5500)
    for _ in range(100):
        line.observe(1000.0, 1.0)
    line.observe(1000.0, 1000.0)
    assert line.slope * 1000 == pytest.approx(1.0 + 0.05 * (OUTLIER - 1.0))


def test_the_first_answers_may_be_anything() -> None:
    line = Line(0.0, 1 / 5500)
    for _ in range(FEW):
        line.observe(1000.0, 1000.0)
    assert line.slope == pytest.approx(1.0)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=60))
def test_a_rate_is_never_negative_and_always_a_number(answers: list[tuple[float, float]]) -> None:
    line = Line(0.02, 0.001)
    for size, seconds in answers:
        line.observe(size, seconds)
        assert 0.0 <= line.intercept < 1e9
        assert 0.0 <= line.slope < 1e9
