"""What the runs of one policy say together."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from loadtests.simulate.world import Ended
from loadtests.stats import percentile

PERCENTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run, or the means of several. Times are seconds, NaN where nothing was answered."""

    ttft_mean: float
    ttft_p50: float
    ttft_p90: float
    ttft_p99: float
    answer_mean: float  # from arrival to the last token
    prefix_hit: float  # part of the prompt tokens that the engines' caches had
    outcomes: Mapping[str, float]  # requests
    retried: float  # requests that needed more than one attempt
    busiest: float  # the requests of the worker that had most, times the average
    tenants: Mapping[str, float]  # mean time to first token of each

    @classmethod
    def of(cls, ended: Sequence[Ended], workers: int) -> Figures:
        ordered = sorted(one.first for one in ended if not math.isnan(one.first))
        answered = [one for one in ended if one.outcome == "done"]
        prompts = sum(one.request.prompt for one in answered)
        at = Counter(one.worker for one in ended)
        tenants: defaultdict[str, list[float]] = defaultdict(list)
        for one in answered:
            tenants[one.request.tenant].append(one.first)
        p50, p90, p99 = (percentile(ordered, q) for q in PERCENTILES)
        return cls(
            fmean(ordered) if ordered else math.nan,
            p50,
            p90,
            p99,
            fmean(one.end for one in answered) if answered else math.nan,
            sum(one.cached for one in answered) / prompts if prompts else 0.0,
            dict(sorted(Counter(one.outcome for one in ended).items())),
            sum(one.attempts > 1 for one in ended),
            max(at.values(), default=0) * workers / len(ended) if ended else 0.0,
            {tenant: fmean(times) for tenant, times in sorted(tenants.items())},
        )

    @classmethod
    def mean(cls, runs: Sequence[Figures]) -> Figures:
        def average(name: str) -> float:
            return fmean(getattr(run, name) for run in runs)

        def by_key(maps: Sequence[Mapping[str, float]]) -> dict[str, float]:
            return {key: fmean(one.get(key, 0.0) for one in maps) for key in sorted({k for one in maps for k in one})}

        return cls(
            average("ttft_mean"),
            average("ttft_p50"),
            average("ttft_p90"),
            average("ttft_p99"),
            average("answer_mean"),
            average("prefix_hit"),
            by_key([run.outcomes for run in runs]),
            average("retried"),
            average("busiest"),
            by_key([run.tenants for run in runs]),
        )

    @property
    def unanswered(self) -> float:
        """Requests."""
        return sum(count for outcome, count in self.outcomes.items() if outcome != "done")

    def document(self) -> dict[str, object]:
        """For JSON, which knows no NaN."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Result:
    """One policy's runs, one by seed."""

    policy: str
    runs: Sequence[Figures]
    firsts: Sequence[tuple[float, float]]  # of the first run: when a request came, and the time to its first token

    @property
    def all(self) -> Figures:
        return Figures.mean(self.runs)

    def document(self) -> dict[str, object]:
        return {"policy": self.policy, "mean": self.all.document(), "runs": [run.document() for run in self.runs]}
