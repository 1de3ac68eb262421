"""Coefficients from what was seen: non-negative least squares on the time that stretches of work took.

A stretch is the time to a visit's first token, or from there to its end. What the worker did meanwhile, for everybody,
is known from the visits that were there, and its time is their sum by the model: one equation a stretch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from gateway.attribution.model import PRIOR, Coefficients

UNKNOWNS = 5
LEAST = 30  # stretches, before what they say is believed
TRUST = 0.1  # stretches that the prior weighs as much as: decides where the seen says nothing
HALF_LIFE = 20_000  # stretches after which one counts half


class Totals(NamedTuple):
    """What a worker has done since some moment."""

    at: float
    new: float
    attention: float
    stepping: float  # seconds of generating that are not the computing of prompts
    generating: float  # visits that generate, times those
    contexts: float  # tokens of context of those, times those


class Fit(NamedTuple):
    coefficients: Coefficients
    n: int  # stretches it was found from
    r2: float  # share of the variance of their times that it tells


class Observations:
    """Sums over stretches: all that least squares needs, whatever their number. The older ones fade."""

    def __init__(self) -> None:
        self.n = 0
        self._weight = 0.0
        self._products = [[0.0] * UNKNOWNS for _ in range(UNKNOWNS)]
        self._with_time = [0.0] * UNKNOWNS
        self._time = 0.0
        self._time_squared = 0.0

    def add(self, before: Totals, after: Totals, steps: float, weight: float = 1.0) -> None:
        """The stretch between two moments, of so many steps; `weight`: how far to believe what is known of it."""
        took = after.at - before.at
        if took <= 0:
            return
        stepping = after.stepping - before.stepping
        rate = steps / stepping if stepping > 0 else 0.0
        x = (
            steps,
            after.new - before.new,
            after.attention - before.attention,
            rate * (after.generating - before.generating),
            rate * (after.contexts - before.contexts),
        )
        self.n += 1
        self._weight += weight
        self._time += weight * took
        self._time_squared += weight * took * took
        with_time = self._with_time
        for i, (row, one) in enumerate(zip(self._products, x, strict=True)):
            if one:
                value = weight * one
                with_time[i] += value * took
                row[0] += value * x[0]
                row[1] += value * x[1]
                row[2] += value * x[2]
                row[3] += value * x[3]
                row[4] += value * x[4]

    def fade(self) -> None:
        """To be called now and then: keeps the sum of weights within twice HALF_LIFE."""
        if self._weight > 2 * HALF_LIFE:
            self._weight /= 2
            self._time /= 2
            self._time_squared /= 2
            self._with_time = [value / 2 for value in self._with_time]
            self._products = [[value / 2 for value in row] for row in self._products]

    def fit(self) -> Fit | None:
        """What explains the stretches best; None while there are too few. In units of the prior, so that seconds a step
        and seconds a token weigh alike, and drawn towards it where nothing was seen."""
        if self.n < LEAST:
            return None
        units = PRIOR
        products = [[self._products[i][j] * units[i] * units[j] for j in range(UNKNOWNS)] for i in range(UNKNOWNS)]
        with_time = [value * unit for value, unit in zip(self._with_time, units, strict=True)]
        predicted = sum(map(sum, products))
        scale = sum(with_time) / predicted if predicted > 0 else 1.0  # of the whole: the prior's may be another engine
        trust = TRUST / self._weight * max(products[i][i] for i in range(UNKNOWNS))
        for i in range(UNKNOWNS):
            products[i][i] += trust
            with_time[i] += trust * scale
        found = nonnegative(products, with_time)
        coefficients = Coefficients(*(value * unit for value, unit in zip(found, units, strict=True)))
        return Fit(coefficients, self.n, self._r2(coefficients))

    def _r2(self, c: Coefficients) -> float:
        left = self._time_squared - 2 * sum(a * b for a, b in zip(c, self._with_time, strict=True))
        left += sum(c[i] * c[j] * self._products[i][j] for i in range(UNKNOWNS) for j in range(UNKNOWNS))
        variance = self._time_squared - self._time * self._time / self._weight
        return 1 - left / variance if variance > 0 else 0.0


def nonnegative(products: Sequence[Sequence[float]], target: Sequence[float]) -> list[float]:
    """The x >= 0 that minimizes x'Px/2 - t'x, for a positive definite P of a few rows: every choice of which are above
    zero is tried, and the one is taken that meets the conditions of Karush, Kuhn and Tucker (best, where rounding
    leaves a doubt)."""
    size = len(target)
    best, least = [0.0] * size, 0.0
    for count in range(1, size + 1):
        for chosen in combinations(range(size), count):
            x = solved([[products[i][j] for j in chosen] for i in chosen], [target[i] for i in chosen])
            if x is None or min(x) < 0:
                continue
            value = -sum(a * target[i] for a, i in zip(x, chosen, strict=True)) / 2  # x'Px = t'x where Px = t
            if value < least:
                least = value
                best = [0.0] * size
                for a, i in zip(x, chosen, strict=True):
                    best[i] = a
    return best


def solved(rows: list[list[float]], right: list[float]) -> list[float] | None:
    """The solution of a system of equations by elimination; None when it has none of its own."""
    size = len(right)
    for i in range(size):
        pivot = max(range(i, size), key=lambda row: abs(rows[row][i]))
        if abs(rows[pivot][i]) < 1e-300:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        right[i], right[pivot] = right[pivot], right[i]
        for row in range(i + 1, size):
            factor = rows[row][i] / rows[i][i]
            if factor:
                right[row] -= factor * right[i]
                for column in range(i, size):
                    rows[row][column] -= factor * rows[i][column]
    for i in reversed(range(size)):
        right[i] = (right[i] - sum(rows[i][j] * right[j] for j in range(i + 1, size))) / rows[i][i]
    return right
