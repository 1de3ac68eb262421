"""Numbers from samples: percentiles with their uncertainty, and what repeated runs agree on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median


def percentile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile (0 to 1) of an ascending sequence, linear between its neighbours."""
    if not ordered:
        return math.nan
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def percentile_interval(ordered: Sequence[float], q: float) -> tuple[float, float]:
    """Where the true q-quantile lies with 95 % confidence: the order statistics a binomial allows, no shape assumed."""
    n = len(ordered)
    if n == 0:
        return math.nan, math.nan
    reach = 1.96 * math.sqrt(n * q * (1 - q))
    low = max(0, math.floor(n * q - reach) - 1)
    high = min(n - 1, math.ceil(n * q + reach))
    return ordered[low], ordered[high]


QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution of seconds."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    maximum: float
    intervals: Mapping[str, tuple[float, float]]  # of each percentile, 95 % confidence

    @classmethod
    def of(cls, samples: Sequence[float]) -> Latency:
        ordered = sorted(samples)
        if not ordered:
            return cls(0, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, {})
        intervals = {name: percentile_interval(ordered, q) for name, q in QUANTILES.items()}
        p50, p90, p99, p999 = (percentile(ordered, q) for q in QUANTILES.values())
        return cls(len(ordered), fmean(ordered), p50, p90, p99, p999, ordered[-1], intervals)

    def document(self) -> dict[str, object] | None:
        """For JSON, which knows no NaN."""
        return asdict(self) if self.count else None


@dataclass(frozen=True, slots=True)
class Spread:
    """What several repetitions of one measurement say: their median, and from the lowest to the highest."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return cls(math.nan, math.nan, math.nan, 0)
        return cls(median(known), min(known), max(known), len(known))

    @property
    def noise(self) -> float:
        """Half the range, as a share of the median."""
        return (self.high - self.low) / 2 / abs(self.median) if self.median else 0.0


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Run by run, because neighbours in time share the machine's mood; the absolute figures do not."""
    return [a / b if b else math.nan for a, b in zip(ours, theirs, strict=False)]


def differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Run by run, as ratios are."""
    return [a - b for a, b in zip(ours, theirs, strict=False)]
