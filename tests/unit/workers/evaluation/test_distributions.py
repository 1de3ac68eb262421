"""The divergence of what endpoints tell: never more than the true one, and closer to it the more they tell."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.evaluation.distributions import Position, Scored, divergence, same_top

# Logits, some of them equal as 16-bit ones often are, some hopeless.
LOGITS = st.one_of(st.floats(-12, 12), st.sampled_from([0.0, 1.0, -60.0]))


@st.composite
def pairs(draw: st.DrawFn, logits: st.SearchStrategy[float] = LOGITS) -> tuple[list[float], list[float], int]:
    """Log-probabilities of two models over one vocabulary, and the token that follows in the text."""
    size = draw(st.integers(2, 24))
    one, other = (draw(st.lists(logits, min_size=size, max_size=size)) for _ in range(2))
    return normalised(one), normalised(other), draw(st.integers(0, size - 1))


def normalised(logits: list[float]) -> list[float]:
    most = max(logits)
    total = most + math.log(sum(math.exp(logit - most) for logit in logits))
    return [logit - total for logit in logits]


def told(logprobs: list[float], truth: int, k: int) -> dict[int, float]:
    """As an engine tells it: the k most probable tokens and the true one."""
    best = sorted(range(len(logprobs)), key=lambda token: (-logprobs[token], token))[:k]
    return {token: logprobs[token] for token in {truth, *best}}


def true_divergence(reference: list[float], candidate: list[float]) -> float:
    return sum(math.exp(p) * (p - q) for p, q in zip(reference, candidate, strict=True))


@given(pairs(), st.integers(1, 24))
def test_it_is_never_above_the_true_divergence(pair: tuple[list[float], list[float], int], k: int) -> None:
    reference, candidate, truth = pair
    bound = divergence(told(reference, truth, k), told(candidate, truth, k))
    assert 0 <= bound <= true_divergence(reference, candidate) + 1e-6


@given(pairs())
def test_it_is_the_true_divergence_when_everything_is_told(pair: tuple[list[float], list[float], int]) -> None:
    reference, candidate, truth = pair
    full = divergence(told(reference, truth, 24), told(candidate, truth, 24))
    assert full == pytest.approx(max(0.0, true_divergence(reference, candidate)), abs=1e-5)


@given(pairs(), st.integers(1, 24))
def test_equal_distributions_do_not_diverge(pair: tuple[list[float], list[float], int], k: int) -> None:
    reference, _, truth = pair
    assert divergence(told(reference, truth, k), told(reference, truth, k)) == 0.0


# Probabilities above what is left of 1 in 32 bits: below it, a tail is taken for larger than it is.
@settings(max_examples=200)
@given(pairs(st.floats(-5, 5)))
def test_more_told_is_never_less_divergence(pair: tuple[list[float], list[float], int]) -> None:
    reference, candidate, truth = pair
    bounds = [divergence(told(reference, truth, k), told(candidate, truth, k)) for k in range(1, 25)]
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(bounds))


def test_a_known_divergence() -> None:
    reference = {0: math.log(0.5), 1: math.log(0.3)}
    candidate = {0: math.log(0.4), 2: math.log(0.1)}
    # Token 1 is not told of both: it is in the tail, which is a half of the one and 0.6 of the other.
    assert divergence(reference, candidate) == pytest.approx(0.5 * math.log(0.5 / 0.4) + 0.5 * math.log(0.5 / 0.6))


def test_a_candidate_sure_of_something_else_diverges_without_bound_but_finitely() -> None:
    assert 10 < divergence({0: 0.0}, {1: 0.0, 0: -10_000.0}) < math.inf


def test_of_equally_probable_tokens_any_is_the_top() -> None:
    assert same_top({0: -1.0, 1: -1.0, 2: -3.0}, {1: -0.5, 0: -0.6})
    assert not same_top({0: -1.0, 1: -1.0, 2: -3.0}, {2: -0.5, 0: -0.6})
    assert not same_top({0: -1.0}, {7: -0.1, 0: -0.2})


@given(st.lists(st.builds(Position, st.floats(-9, 0), st.dictionaries(st.integers(-9, 9), st.floats(-9, 0)))))
def test_packed_positions_are_the_same_again(positions: list[Position]) -> None:
    scored = Scored.of(positions)
    assert list(scored) == positions
    assert len(scored) == len(positions)
