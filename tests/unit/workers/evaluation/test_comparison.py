"""Figures out of two models' words: by hand where they are few, by property where they are many."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.evaluation import bootstrap
from workers.evaluation.comparison import Compared, compare, divergence_of, long_context_of, perplexity_of
from workers.evaluation.distributions import Position, Scored

HALVES = {0: math.log(0.5), 1: math.log(0.5)}
QUARTER = {0: math.log(0.75), 1: math.log(0.25)}


def window(*klds: float, same: int = 0, loss: float = 0.0) -> Compared:
    return Compared(tuple(klds), same, reference_nll=2.0 * len(klds), candidate_nll=2.0 * len(klds) + loss)


def test_a_window_is_compared_position_by_position() -> None:
    reference = Scored.of([Position(HALVES[0], HALVES), Position(HALVES[1], HALVES)])
    candidate = Scored.of([Position(HALVES[0], HALVES), Position(QUARTER[1], QUARTER)])
    found = compare(reference, candidate)
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert found.klds == (0.0, pytest.approx(expected, abs=1e-6))
    assert found.same == 2
    assert found.candidate_nll - found.reference_nll == pytest.approx(math.log(2))


def test_windows_of_different_lengths_are_not_compared() -> None:
    with pytest.raises(ValueError, match="zip"):
        compare(Scored.of([Position(0.0, {0: 0.0})]), Scored.of([]))


def test_divergence_counts_tokens_not_windows() -> None:
    found = divergence_of([window(0.1, 0.2, 0.3, same=3), window(1.0, same=0)], top_k=5, seed=1)
    assert found.tokens == 4
    assert found.mean_kld.value == pytest.approx(0.4)
    assert found.same_top.value == 0.75
    assert found.max_kld == found.p99_kld == 1.0
    assert found.mean_kld.low == pytest.approx(0.2)
    assert found.mean_kld.high == pytest.approx(1.0)


def test_the_99th_percentile_leaves_one_in_a_hundred_out() -> None:
    assert divergence_of([window(*(i / 100 for i in range(100)))], top_k=5, seed=1).p99_kld == 0.98


def test_perplexity_is_paired_by_window() -> None:
    found = perplexity_of([window(0, 0, loss=0.2), window(0, 0, loss=0.2)], seed=1)
    assert found.reference == pytest.approx(math.exp(2))
    assert found.candidate == pytest.approx(math.exp(2.1))
    assert found.ratio.value == pytest.approx(found.ratio.low) == pytest.approx(math.exp(0.1))


def test_a_hopeless_model_has_a_finite_perplexity() -> None:
    assert math.isfinite(perplexity_of([window(0, loss=1e4)], seed=1).candidate)


def test_long_context_is_summed_over_its_windows() -> None:
    found = long_context_of([window(0.1, 0.3, same=1, loss=0.4), window(0.2, 0.2, same=2)], context=2047)
    assert (found.context, found.tokens) == (2047, 4)
    assert found.mean_kld == pytest.approx(0.2)
    assert found.same_top == 0.75
    assert found.perplexity_ratio == pytest.approx(math.exp(0.1))
    with pytest.raises(ValueError, match="no position"):
        long_context_of([], context=1)


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 50)), min_size=1, max_size=20), st.integers())
def test_an_interval_holds_its_estimate_and_nothing_beyond_the_windows(
    windows: list[tuple[float, int]], seed: int
) -> None:
    sums, counts = [mean * count for mean, count in windows], [count for _, count in windows]
    found = bootstrap.of_mean(sums, counts, seed)
    assert found == bootstrap.of_mean(sums, counts, seed)
    assert found.low <= found.value <= found.high
    assert min(mean for mean, _ in windows) - 1e-9 <= found.low
    assert found.high <= max(mean for mean, _ in windows) + 1e-9


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    random = Random(20260)
    held = 0
    for trial in range(200):
        sums = [sum(random.expovariate(1.0) for _ in range(20)) for _ in range(32)]
        found = bootstrap.of_mean(sums, [20] * 32, trial)
        held += found.low <= 1.0 <= found.high
    assert 180 <= held <= 198  # 95 % of 200 are 190; percentiles of 32 windows hold a little less
