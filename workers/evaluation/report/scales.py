"""From values to places on the page, and the round values that an axis shows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_FARTHEST = 1e15  # from 0; an axis ends there


@dataclass(frozen=True, slots=True)
class Linear:
    """`low`…`high` on `start`…`end`; what lies outside is put on the edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        return linear_ticks(self.low, self.high, count)


@dataclass(frozen=True, slots=True)
class Log:
    """Logarithmic, both bounds above 0; 0 and less lie on the lower edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        return log_ticks(self.low, self.high, count)


@dataclass(frozen=True, slots=True)
class Closeness:
    """Shares by the logarithm of what they lack to 1, so that 99 % and 99.9 % are apart; `nearest` and more lie at the
    end, the better side."""

    farthest: float
    nearest: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        lacking = Log(1 - self.nearest, 1 - self.farthest, self.end, self.start)
        return lacking(1 - value)

    def ticks(self, count: int = 5) -> list[float]:
        round_ = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999)
        shown = [one for one in round_ if self.farthest - 1e-9 <= one <= self.nearest + 1e-9]
        return shown[:: -max(1, math.ceil(len(shown) / (count + 1)))][::-1]


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """At most `count` + 1 multiples of 1, 2 or 5 times a power of ten within the bounds."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low] if math.isfinite(low) else []
    step = _step((high - low) / max(1, count))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [one * step for one in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Powers of ten within the bounds, as many as have room; 2 and 5 between them where there are few."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first + 1) / max(1, count)))
    decades = [10.0**exponent for exponent in range(first, last + 1, every)]
    if len(decades) > 2:
        return decades
    finer = [
        digit * 10.0**exponent
        for exponent in range(first - 1, last + 1)
        for digit in (1, 2, 5)
        if low * (1 - 1e-9) <= digit * 10.0**exponent <= high * (1 + 1e-9)
    ]
    return finer if len(finer) <= count + 1 else decades or finer[:: max(1, len(finer) // count)]


def from_zero(values: Iterable[float], start: float, end: float) -> Linear:
    """From 0 to the next round value above the largest."""
    high = min(max(values, default=0.0), _FARTHEST)
    return Linear(0.0, ceiling(high), start, end)


def around(values: Iterable[float], start: float, end: float) -> Linear:
    """Round values around all of them, without asking for 0."""
    known = [min(max(one, -_FARTHEST), _FARTHEST) for one in values]
    low, high = min(known, default=0.0), max(known, default=1.0)
    room = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    step = _step((high - low + 2 * room) / 5)
    return Linear(math.floor((low - room) / step) * step, math.ceil((high + room) / step) * step, start, end)


def decades(values: Iterable[float], start: float, end: float, *, lowest: float = 1e-7) -> Log:
    """From below the smallest positive value to above the largest, a decade at least."""
    known = [min(max(one, lowest), _FARTHEST) for one in values if one > 0]
    low, high = min(known, default=0.001) / 1.6, max(known, default=0.1) * 1.6
    while high / low < 10:
        low, high = low / 1.3, high * 1.3
    return Log(low, high, start, end)


def closeness(values: Iterable[float], start: float, end: float) -> Closeness:
    """From below the smallest share to above the largest that is not 1."""
    lacking = [min(max(1 - one, 1e-5), 1.0) for one in values]
    most, least = min(1.0, max(lacking, default=0.1) * 1.3), min(lacking, default=0.01) / 1.3
    return Closeness(1 - most, 1 - min(least, most / 4), start, end)


def ceiling(value: float) -> float:
    """The next of 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten."""
    if not math.isfinite(value) or value < 1e-290:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(one * power for one in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 100) if one * power >= value * 0.9999)


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(one * power for one in (1, 2, 5, 10, 100) if one * power >= rough * 0.9999)
