"""Metrics: what is gathered arrives in the registry as if the library's own instruments had been used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry import (
    LATENCY_BUCKETS,
    MOST_WORKERS,
    OTHERS,
    OVERHEAD_BUCKETS,
    TOKEN_BUCKETS,
    Buckets,
    Labels,
    Metrics,
    Reading,
)

CHAT = Labels("ann", "chat", "int8", "cheap", "chat.completions", 200)
PLACE = {"tenant": "ann", "model": "chat", "version": "int8"}


def finish(metrics: Metrics, labels: Labels = CHAT, **more: object) -> None:
    fields: dict[str, object] = {
        "cache": "bypass",
        "duration": 0.2,
        "overhead": 0.001,
        "ttft": None,
        "ttft_ratio": 0.0,
        "prompt": 10,
        "cached": 4,
        "output": 3,
        "cost_nanousd": 5_000,
        **more,
    }
    metrics.tally(labels).add(**fields)  # type: ignore[arg-type]


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Everything a scrape shows, zeros left out."""
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.value
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics).get((name, tuple(sorted(labels.items()))), 0.0)


def test_a_finished_request_shows_in_every_metric_it_belongs_to() -> None:
    metrics = Metrics()
    finish(metrics, ttft=0.03, ttft_ratio=1.3, cache="miss")
    finish(metrics, overhead=None, cache="hit", prompt=0, cached=0, output=0, cost_nanousd=0)
    where = {**PLACE, "route": "cheap", "endpoint": "chat.completions", "status": "200"}
    assert value(metrics, "tollgate_requests_total", **where) == 2
    assert value(metrics, "tollgate_tokens_total", **PLACE, kind="prompt") == 10
    assert value(metrics, "tollgate_tokens_total", **PLACE, kind="cached") == 4
    assert value(metrics, "tollgate_tokens_total", **PLACE, kind="output") == 3
    assert value(metrics, "tollgate_cost_usd_total", **PLACE) == pytest.approx(5e-6)
    duration = {"model": "chat", "endpoint": "chat.completions"}
    assert value(metrics, "tollgate_request_duration_seconds_count", **duration) == 2
    assert value(metrics, "tollgate_request_duration_seconds_sum", **duration) == pytest.approx(0.4)
    assert value(metrics, "tollgate_request_duration_seconds_bucket", **duration, le="0.25") == 2
    assert value(metrics, "tollgate_request_duration_seconds_bucket", **duration, le="0.1") == 0
    assert value(metrics, "tollgate_overhead_seconds_count") == 1
    assert value(metrics, "tollgate_time_to_first_token_seconds_count", model="chat", version="int8") == 1
    assert value(metrics, "tollgate_prediction_error_ttft_ratio_count", model="chat", version="int8") == 1
    assert value(metrics, "tollgate_prediction_error_ttft_ratio_bucket", model="chat", version="int8", le="1.5") == 1
    assert value(metrics, "tollgate_prediction_error_ttft_ratio_bucket", model="chat", version="int8", le="1.25") == 0
    assert value(metrics, "tollgate_cache_total", result="miss") == 1
    assert value(metrics, "tollgate_cache_total", result="hit") == 1


def test_nothing_is_counted_twice_or_lost_between_scrapes() -> None:
    metrics = Metrics()
    name, labels = "tollgate_tokens_total", {**PLACE, "kind": "output"}
    finish(metrics)
    assert value(metrics, name, **labels) == 3
    assert value(metrics, name, **labels) == 3
    finish(metrics)
    metrics.pour()
    metrics.pour()
    finish(metrics)
    assert value(metrics, name, **labels) == 9
    assert value(metrics, "tollgate_cache_total", result="bypass") == 3


def test_labels_are_kept_apart() -> None:
    metrics = Metrics()
    finish(metrics)
    finish(metrics, CHAT._replace(status=429, tenant="bob"))
    counted = {key: count for key, count in samples(metrics).items() if key[0] == "tollgate_requests_total"}
    assert list(counted.values()) == [1, 1]


def test_attempts_are_counted_by_outcome() -> None:
    metrics = Metrics()
    for outcome in ("ok", "ok", "failed"):
        metrics.attempted("w1", outcome)
    assert value(metrics, "tollgate_attempts_total", worker="w1", outcome="ok") == 2
    assert value(metrics, "tollgate_attempts_total", worker="w1", outcome="failed") == 1


def test_workers_that_come_and_go_for_ever_share_a_label_in_the_end() -> None:
    metrics = Metrics()
    for number in range(MOST_WORKERS + 3):
        metrics.attempted(f"w-{number}", "ok")
    metrics.pour()
    metrics.attempted("w-0", "ok")
    metrics.pour()
    seen = samples(metrics)
    assert seen["tollgate_attempts_total", (("outcome", "ok"), ("worker", OTHERS))] == 3
    assert seen["tollgate_attempts_total", (("outcome", "ok"), ("worker", "w-0"))] == 2
    assert sum(name == "tollgate_attempts_total" for name, _ in seen) == MOST_WORKERS + 1


def test_gaps_between_tokens_are_shared_by_all_streams_of_a_version() -> None:
    metrics = Metrics()
    assert metrics.gaps("chat", "int8") is metrics.gaps("chat", "int8")
    assert metrics.gaps("chat", "int8") is not metrics.gaps("chat", "fp8")
    metrics.gaps("chat", "int8").observe(0.03)
    assert value(metrics, "tollgate_inter_token_seconds_count", model="chat", version="int8") == 1
    assert value(metrics, "tollgate_inter_token_seconds_bucket", model="chat", version="int8", le="0.04") == 1
    assert value(metrics, "tollgate_inter_token_seconds_count", model="chat", version="fp8") == 0


@given(
    st.sampled_from([LATENCY_BUCKETS, TOKEN_BUCKETS, OVERHEAD_BUCKETS]),
    st.lists(st.floats(0, 1000) | st.sampled_from(LATENCY_BUCKETS + TOKEN_BUCKETS), max_size=30),
    st.integers(0, 30),
)
def test_poured_observations_are_those_of_the_library(
    bounds: tuple[float, ...], observed: list[float], pour_after: int
) -> None:
    def histogram() -> tuple[Histogram, CollectorRegistry]:
        registry = CollectorRegistry()
        return Histogram("x", "x", buckets=bounds, registry=registry), registry

    (theirs, expected), (ours, poured) = histogram(), histogram()
    buckets = Buckets(bounds)
    for number, seconds in enumerate(observed):
        theirs.observe(seconds)
        buckets.observe(seconds)
        if number == pour_after:
            buckets.pour(ours)
    buckets.pour(ours)
    buckets.pour(ours)
    for family, same in zip(expected.collect(), poured.collect(), strict=True):
        assert [(s.name, s.labels, pytest.approx(s.value)) for s in family.samples] == [
            (s.name, s.labels, s.value) for s in same.samples
        ]


# Read at scrape time


def test_readings_are_taken_when_somebody_scrapes() -> None:
    metrics = Metrics()
    up = 0.0
    metrics.watch(
        lambda: [
            Reading("tollgate_worker_up", "Whether it answers.", up, {"worker": "w1"}),
            Reading("tollgate_worker_up", "Whether it answers.", 1.0, {"worker": "w2"}),
            Reading("tollgate_ledger_rows_total", "Rows written.", 7.0, {}),
        ]
    )
    assert value(metrics, "tollgate_worker_up", worker="w1") == 0
    up = 1.0
    assert value(metrics, "tollgate_worker_up", worker="w1") == 1
    assert value(metrics, "tollgate_worker_up", worker="w2") == 1
    assert value(metrics, "tollgate_ledger_rows_total") == 7
    kinds = {family.name: family.type for family in metrics.registry.collect()}
    assert (kinds["tollgate_worker_up"], kinds["tollgate_ledger_rows"]) == ("gauge", "counter")


# Names


def test_every_metric_is_ours_explained_and_in_base_units() -> None:
    metrics = Metrics()
    families = list(metrics.registry.collect())
    assert len(families) >= 12
    for family in families:
        assert family.name.startswith("tollgate_")
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        assert not any(unit in family.name for unit in ("_ms", "_millis", "_nanousd"))
        assert family.type != "histogram" or family.name.endswith(("_seconds", "_position", "_ratio"))


def test_two_registries_share_nothing() -> None:
    one, other = Metrics(), Metrics(CollectorRegistry())
    finish(one)
    assert samples(other) == {}
    assert samples(one) != {}
