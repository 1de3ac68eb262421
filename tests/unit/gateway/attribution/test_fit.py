"""Coefficients from stretches of work."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.attribution.fit import HALF_LIFE, LEAST, Observations, Totals, nonnegative, solved
from gateway.attribution.model import PRIOR, Coefficients

TRUE = Coefficients(2e-2, 1e-4, 2e-9, 2e-4, 1e-7)


def observed(count: int, noise: float = 0.0, true: Coefficients = TRUE) -> Observations:
    dice = Random(1)
    found = Observations()
    for _ in range(count):
        steps, tenants = dice.randint(1, 500), dice.randint(1, 30)
        new = dice.choice([0, dice.randint(1, 20_000)])
        x = (steps, new, new * dice.randint(100, 4_000), steps * tenants, steps * tenants * dice.randint(100, 3_000))
        took = sum(a * b for a, b in zip(true, x, strict=True)) * (1 + dice.gauss(0, noise))
        stepping = took * dice.uniform(0.1, 1.0)
        per_second = stepping / steps
        start = Totals(5.0, 1.0, 2.0, 0.0, 3.0, 4.0)
        of_generating = 3.0 + x[3] * per_second, 4.0 + x[4] * per_second
        end = Totals(5.0 + took, 1.0 + x[1], 2.0 + x[2], stepping, *of_generating)
        found.add(start, end, steps)
    return found


def test_they_are_found_again():
    fit = observed(500).fit()
    assert fit is not None
    assert fit.n == 500
    assert fit.r2 > 0.99
    for found, true in zip(fit.coefficients, TRUE, strict=True):
        assert 0.6 * true < found < 1.6 * true  # an engine far from the prior
    assert fit.coefficients[:2] == pytest.approx(TRUE[:2], rel=0.05)


def test_the_share_told_of_the_variance_falls_with_noise():
    clear, noisy = observed(500).fit(), observed(500, noise=0.5).fit()
    assert clear is not None
    assert noisy is not None
    assert noisy.r2 < 0.95 < clear.r2


def test_what_is_sure_decides_against_much_that_is_not():
    found, wrong = observed(200), Totals(1.0, 5_000.0, 0.0, 0.0, 0.0, 0.0)  # seconds a token: twice what they are
    for _ in range(2_000):
        found.add(Totals(0, 0, 0, 0, 0, 0), wrong, 1.0, weight=0.001)
    fit = found.fit()
    assert fit is not None
    assert fit.coefficients.a1 == pytest.approx(TRUE.a1, rel=0.05)


def test_too_few_say_nothing():
    assert observed(LEAST - 1).fit() is None


def test_what_was_never_seen_keeps_the_prior_in_proportion():
    found = Observations()
    for steps in range(1, 100):
        found.add(Totals(0, 0, 0, 0, 0, 0), Totals(steps * 2 * PRIOR.a0, 0, 0, 0, 0, 0), steps)
    fit = found.fit()
    assert fit is not None
    assert fit.coefficients == pytest.approx([2 * value for value in PRIOR], rel=1e-3)


def test_old_stretches_fade():
    found = observed(300)
    found._weight += 2 * HALF_LIFE
    before = found._products[0][0]
    found.fade()
    assert found._products[0][0] == before / 2


@given(st.lists(st.tuples(*[st.floats(0, 10)] * 3, st.floats(0, 10)), min_size=4, max_size=12))
def test_no_other_point_near_is_better(rows):
    products = [[sum(r[i] * r[j] for r in rows) + (i == j) * 0.1 for j in range(3)] for i in range(3)]
    target = [sum(r[i] * r[3] for r in rows) - 20.0 * i for i in range(3)]

    def value(x: list[float]) -> float:
        return sum(x[i] * x[j] * products[i][j] for i in range(3) for j in range(3)) / 2 - sum(
            a * b for a, b in zip(x, target, strict=True)
        )

    best = nonnegative(products, target)
    assert min(best) >= 0
    for i in range(3):
        for step in (-1e-3, 1e-3):
            other = [max(0.0, a + step * (i == j)) for j, a in enumerate(best)]
            assert value(best) <= value(other) + 1e-7 * (1 + abs(value(best)))


def test_equations_without_a_solution_of_their_own():
    assert solved([[0.0, 0.0], [0.0, 1.0]], [1.0, 1.0]) is None
    assert solved([[2.0, 1.0], [1.0, 3.0]], [3.0, 4.0]) == pytest.approx([1.0, 1.0])
