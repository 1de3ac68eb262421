"""What the gateway counts and how it is called. The only file that names a metric.

Base units, few and bounded labels: model and tenant names come from the configuration, never from a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

disable_created_metrics()  # a second series for every series, which nothing here reads

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0)
POSITION_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
MOST_WORKERS = 4_096  # that have a label of their own: where workers are found by address, names come and go for ever
OTHERS = "other"
RATIO_BUCKETS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0, 1.11, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Labels(NamedTuple):
    """The labels of one finished request. Empty strings where the request never got that far."""

    tenant: str
    model: str
    version: str
    route: str
    endpoint: str
    status: int


class Buckets:
    """Observations gathered for one histogram, at a tenth of what the library's own `observe` costs."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        at = 0
        for bound in self.bounds:  # when compiled, the first that it does not pass is found sooner than by `bisect`
            if not bound < value:
                break
            at += 1
        self.counts[at] += 1
        self.total += value

    def pour(self, histogram: Histogram, *labels: str) -> None:
        """Moves what was gathered into the library's histogram, which has no public way to add many at once."""
        if not any(self.counts):
            return
        child: Any = histogram.labels(*labels) if labels else histogram
        for bucket, count in zip(child._buckets, self.counts, strict=True):
            if count:
                bucket.inc(count)
        child._sum.inc(self.total)
        self.counts = [0] * len(self.counts)
        self.total = 0.0


class Tally:
    """What the requests of one set of labels have added since it was last poured."""

    __slots__ = (
        "bypassed",
        "cached",
        "cost_nanousd",
        "duration",
        "hits",
        "misses",
        "output",
        "overhead",
        "prompt",
        "requests",
        "ttft",
        "ttft_ratio",
    )

    def __init__(self) -> None:
        self.requests = self.hits = self.misses = self.bypassed = 0
        self.prompt = self.cached = self.output = self.cost_nanousd = 0
        self.duration = Buckets(LATENCY_BUCKETS)
        self.overhead = Buckets(OVERHEAD_BUCKETS)
        self.ttft = Buckets(LATENCY_BUCKETS)
        self.ttft_ratio = Buckets(RATIO_BUCKETS)

    def add(
        self,
        cache: str,
        duration: float,
        overhead: float | None,
        ttft: float | None,
        ttft_ratio: float,
        prompt: int,
        cached: int,
        output: int,
        cost_nanousd: int,
    ) -> None:
        """One request is over. `overhead` is None when no worker was asked, `ttft_ratio` is the time to the first token
        over the predicted one, and 0 where either is unknown."""
        self.requests += 1
        if cache == "bypass":
            self.bypassed += 1
        elif cache == "hit":
            self.hits += 1
        else:
            self.misses += 1
        self.prompt += prompt
        self.cached += cached
        self.output += output
        self.cost_nanousd += cost_nanousd
        self.duration.observe(duration)
        if overhead is not None:
            self.overhead.observe(overhead)
        if ttft is not None:
            self.ttft.observe(ttft)
        if ttft_ratio:
            self.ttft_ratio.observe(ttft_ratio)


class Metrics:
    """All instruments of one process, on a registry of its own.

    What every request adds is gathered in plain numbers first and poured into the registry now and then: the library's
    instruments take a lock per increment, which for ten of them per request is a tenth of the gateway's whole cost.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.registry.register(_BeforeScrape(self.pour))  # the first registered is the first collected
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
        self.prediction_error = Histogram(
            "tollgate_prediction_error_ttft_ratio",
            "Time to first token of a streamed attempt over what the router predicted of its worker: 1 is right.",
            ("model", "version"),
            buckets=RATIO_BUCKETS,
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
        self.adapter_loads = Counter(
            "tollgate_adapter_loads_total",
            "Loads of adapters that were tried on workers, by outcome (ok, failed).",
            ("model", "outcome"),
            registry=self.registry,
        )
        self.adapter_unloads = Counter(
            "tollgate_adapter_unloads_total",
            "Unloads of adapters that were tried on workers, by outcome (ok, failed).",
            ("model", "outcome"),
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "tollgate_queue_seconds",
            "How long requests waited for a worker with room, those that found none at once.",
            ("priority",),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.queue_expected = Histogram(
            "tollgate_queue_expected_seconds",
            "How long that wait was expected to be when it began, where that was known; of those refused for it too.",
            ("priority",),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.queue_position = Histogram(
            "tollgate_queue_position",
            "Which place in the queue requests came to, 1 for the next to go.",
            ("priority",),
            buckets=POSITION_BUCKETS,
            registry=self.registry,
        )
        self.cache = Counter("tollgate_cache_total", "Requests by cache result.", ("result",), registry=self.registry)
        self.refusals = Counter(
            "tollgate_limit_refusals_total",
            "Requests refused by a limit or a budget.",
            ("tenant", "code"),
            registry=self.registry,
        )
        self.budget_alerts = Counter(
            "tollgate_limit_budget_alerts_total",
            "Parts of a budget (50, 80, 100 percent) that were reached.",
            ("tenant", "percent"),
            registry=self.registry,
        )
        self.loop_lag = Gauge(
            "tollgate_event_loop_lag_seconds",
            "How late the event loop last was for its own timer.",
            registry=self.registry,
            multiprocess_mode="max",
        )
        self._tallies: dict[Labels, Tally] = {}
        self._gaps: dict[tuple[str, str], Buckets] = {}
        self._attempts: dict[str, dict[str, int]] = {}  # by worker and outcome
        self._workers: set[str] = set()  # that have a label

    def attempted(self, worker: str, outcome: str) -> None:
        """One attempt on a worker is over."""
        counts = self._attempts.get(worker)
        if counts is None:
            counts = self._attempts[worker] = {}
        counts[outcome] = counts.get(outcome, 0) + 1

    def moved(self, load: bool, model: str, outcome: str) -> None:
        """An adapter of the model was loaded on a worker, or unloaded, or that failed."""
        counter = self.adapter_loads if load else self.adapter_unloads
        counter.labels(model, outcome).inc()

    def queued(self, priority: str, position: int, expected: float | None, seconds: float) -> None:
        """One request found no room at once, and waited so long; 0 when it was refused for what was to be expected."""
        self.queue_position.labels(priority).observe(position)
        if expected is not None:
            self.queue_expected.labels(priority).observe(expected)
        if seconds:
            self.queue_seconds.labels(priority).observe(seconds)

    def gaps(self, model: str, version: str) -> Buckets:
        """Where a stream of this version notes the time between two reads."""
        place = (model, version)
        buckets = self._gaps.get(place)
        if buckets is None:
            buckets = self._gaps[place] = Buckets(TOKEN_BUCKETS)
        return buckets

    def tally(self, labels: Labels) -> Tally:
        """Where requests of these labels are added, always the same one. What is added shows after the next `pour`."""
        tally = self._tallies.get(labels)
        if tally is None:
            tally = self._tallies[labels] = Tally()
        return tally

    def pour(self) -> None:
        """Moves what was gathered into the registry: before a scrape, and every second for other processes'."""
        for labels, tally in self._tallies.items():
            if not tally.requests:
                continue
            place = (labels.tenant, labels.model, labels.version)
            self.requests.labels(*place, labels.route, labels.endpoint, str(labels.status)).inc(tally.requests)
            self.tokens.labels(*place, "prompt").inc(tally.prompt)
            self.tokens.labels(*place, "cached").inc(tally.cached)
            self.tokens.labels(*place, "output").inc(tally.output)
            self.cost.labels(*place).inc(tally.cost_nanousd / 1e9)
            tally.duration.pour(self.duration, labels.model, labels.endpoint)
            tally.overhead.pour(self.overhead)
            tally.ttft.pour(self.ttft, labels.model, labels.version)
            tally.ttft_ratio.pour(self.prediction_error, labels.model, labels.version)
            for result, count in (("hit", tally.hits), ("miss", tally.misses), ("bypass", tally.bypassed)):
                if count:
                    self.cache.labels(result).inc(count)
            tally.requests = tally.hits = tally.misses = tally.bypassed = 0
            tally.prompt = tally.cached = tally.output = tally.cost_nanousd = 0
        for version, buckets in self._gaps.items():
            buckets.pour(self.inter_token, *version)
        for worker, counts in self._attempts.items():
            if worker not in self._workers and len(self._workers) < MOST_WORKERS:
                self._workers.add(worker)
            for outcome, count in counts.items():
                self.attempts.labels(worker if worker in self._workers else OTHERS, outcome).inc(count)
        self._attempts.clear()

    def watch(self, sample: Callable[[], Iterable[Reading]]) -> None:
        """Registers readings that are taken when somebody scrapes, such as the state of the workers."""
        self.registry.register(_Watched(sample))


class Reading(NamedTuple):
    """One value read at scrape time. A name that ends in `_total` is a counter."""

    name: str
    help: str
    value: float
    labels: dict[str, str]


class _BeforeScrape:
    """Has no metrics; being collected is the sign that somebody scrapes."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        self._action()
        return []


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
