"""What the gateway counts and how it is called. The only file that names a metric.

Base units, few and bounded labels: model and tenant names come from the configuration, never from a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0)
OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

Observe = Callable[[float], None]


class Labels(NamedTuple):
    """The labels of one finished request. Empty strings where the request never got that far."""

    tenant: str
    model: str
    version: str
    route: str
    endpoint: str
    status: int


class _Bound:
    """The instruments of one set of labels, looked up once: `labels()` costs more than all the increments."""

    __slots__ = ("cached", "cost", "duration", "output", "overhead", "prompt", "requests", "ttft")

    def __init__(self, metrics: Metrics, labels: Labels) -> None:
        place = (labels.tenant, labels.model, labels.version)
        self.requests = metrics.requests.labels(*place, labels.route, labels.endpoint, str(labels.status)).inc
        self.duration: Observe = metrics.duration.labels(labels.model, labels.endpoint).observe
        self.overhead: Observe = metrics.overhead.observe
        self.ttft: Observe = metrics.ttft.labels(labels.model, labels.version).observe
        self.prompt = metrics.tokens.labels(*place, "prompt").inc
        self.cached = metrics.tokens.labels(*place, "cached").inc
        self.output = metrics.tokens.labels(*place, "output").inc
        self.cost = metrics.cost.labels(*place).inc


class Metrics:
    """All instruments of one process, on a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        place = ("tenant", "model", "version")
        self.requests = Counter(
            "tollgate_requests_total",
            "Requests answered.",
            (*place, "route", "endpoint", "status"),
            registry=self.registry,
        )
        self.duration = Histogram(
            "tollgate_request_duration_seconds",
            "From the arrival of a request to the last byte of its answer.",
            ("model", "endpoint"),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.overhead = Histogram(
            "tollgate_overhead_seconds",
            "What the gateway itself added to a request, the wait for its event loop included.",
            buckets=OVERHEAD_BUCKETS,
            registry=self.registry,
        )
        self.ttft = Histogram(
            "tollgate_time_to_first_token_seconds",
            "From the arrival of a streamed request to its first event.",
            ("model", "version"),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.inter_token = Histogram(
            "tollgate_inter_token_seconds",
            "Between two reads of a stream.",
            ("model", "version"),
            buckets=TOKEN_BUCKETS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "tollgate_tokens_total",
            "Tokens by kind: prompt, cached (those of prompt that a prefix cache served), output.",
            (*place, "kind"),
            registry=self.registry,
        )
        self.cost = Counter("tollgate_cost_usd_total", "Cost in USD.", place, registry=self.registry)
        self.aborts = Counter(
            "tollgate_aborts_total", "Requests whose client left early.", ("phase",), registry=self.registry
        )
        self.abort_seconds = Histogram(
            "tollgate_abort_seconds",
            "From a client's leaving to the closing of the worker's connection.",
            buckets=OVERHEAD_BUCKETS,
            registry=self.registry,
        )
        self.attempts = Counter(
            "tollgate_attempts_total", "Attempts on workers by outcome.", ("worker", "outcome"), registry=self.registry
        )
        cache = Counter("tollgate_cache_total", "Requests by cache result.", ("result",), registry=self.registry)
        self.cache_results = {result: cache.labels(result).inc for result in ("hit", "miss", "bypass")}
        self.refusals = Counter(
            "tollgate_limit_refusals_total",
            "Requests refused by a limit or a budget.",
            ("tenant", "code"),
            registry=self.registry,
        )
        self.loop_lag = Gauge(
            "tollgate_event_loop_lag_seconds",
            "How late the event loop last was for its own timer.",
            registry=self.registry,
            multiprocess_mode="max",
        )
        self._bound: dict[Labels, _Bound] = {}

    def finished(
        self,
        labels: Labels,
        *,
        duration: float,
        overhead: float | None,
        ttft: float | None,
        prompt: int,
        cached: int,
        output: int,
        cost_usd: float,
    ) -> None:
        """One request is over. `overhead` is None when no worker was asked."""
        bound = self._bound.get(labels)
        if bound is None:
            bound = self._bound[labels] = _Bound(self, labels)
        bound.requests()
        bound.duration(duration)
        if overhead is not None:
            bound.overhead(overhead)
        if ttft is not None:
            bound.ttft(ttft)
        if prompt:
            bound.prompt(prompt)
        if cached:
            bound.cached(cached)
        if output:
            bound.output(output)
        if cost_usd:
            bound.cost(cost_usd)

    def watch(self, sample: Callable[[], Iterable[Reading]]) -> None:
        """Registers readings that are taken when somebody scrapes, such as the state of the workers."""
        self.registry.register(_Watched(sample))


class Reading(NamedTuple):
    """One value read at scrape time. A name that ends in `_total` is a counter."""

    name: str
    help: str
    value: float
    labels: dict[str, str]


class _Watched:
    def __init__(self, sample: Callable[[], Iterable[Reading]]) -> None:
        self._sample = sample

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for reading in self._sample():
            family = families.get(reading.name)
            if family is None:
                kind = CounterMetricFamily if reading.name.endswith("_total") else GaugeMetricFamily
                family = families[reading.name] = kind(reading.name, reading.help, labels=list(reading.labels))
            family.add_metric(list(reading.labels.values()), reading.value)  # type: ignore[attr-defined]
        yield from families.values()
