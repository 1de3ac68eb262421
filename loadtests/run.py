"""What one measurement found: counts, samples, and what the process under test spent."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from loadtests.stats import Latency


def _samples() -> array[float]:
    return array("d")


@dataclass
class Run:
    """One measurement of one target. Samples are seconds."""

    seconds: float
    requests: int = 0
    events: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    tokens: Counter[str] = field(default_factory=Counter[str])  # as the answers' usage reports them, where it is read
    starts: array[float] = field(default_factory=_samples)  # when each answered request was due, from the beginning
    latencies: array[float] = field(default_factory=_samples)  # from then to the end of its answer
    firsts: array[float] = field(default_factory=_samples)  # and to the first byte of the body
    gaps: array[float] = field(default_factory=_samples)  # between the events of a stream
    cpu_seconds: float | None = None  # of the process under test
    rss_before: int | None = None
    rss_after: int | None = None
    own_rss_after: int | None = None  # of the process itself, without its descendants

    @classmethod
    def merged(cls, runs: Sequence[Run]) -> Run:
        """What several load generators saw at the same time; one of them watched the process under test."""
        whole = cls(max(run.seconds for run in runs))
        for run in runs:
            whole.requests += run.requests
            whole.events += run.events
            whole.errors.update(run.errors)
            whole.tokens.update(run.tokens)
            whole.starts.extend(run.starts)
            whole.latencies.extend(run.latencies)
            whole.firsts.extend(run.firsts)
            whole.gaps.extend(run.gaps)
            if run.cpu_seconds is not None:
                whole.cpu_seconds, whole.rss_before, whole.rss_after = run.cpu_seconds, run.rss_before, run.rss_after
                whole.own_rss_after = run.own_rss_after
        return whole

    @cached_property
    def latency(self) -> Latency:
        return Latency.of(self.latencies)

    @cached_property
    def first(self) -> Latency:
        return Latency.of(self.firsts)

    @cached_property
    def gap(self) -> Latency:
        return Latency.of(self.gaps)

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0

    @property
    def error_share(self) -> float:
        bad = self.errors.total()
        return bad / (bad + self.requests) if bad else 0.0

    def document(self) -> dict[str, object]:
        """For JSON: counts and distributions, not the samples."""
        return {
            "seconds": self.seconds,
            "requests": self.requests,
            "events": self.events,
            "errors": dict(self.errors),
            "tokens": dict(self.tokens),
            "requests_per_second": self.requests_per_second,
            "events_per_second": self.events_per_second,
            "latency": self.latency.document(),
            "first": self.first.document(),
            "gap": self.gap.document(),
            "cpu_seconds": self.cpu_seconds,
            "rss_before": self.rss_before,
            "rss_after": self.rss_after,
            "own_rss_after": self.own_rss_after,
        }
