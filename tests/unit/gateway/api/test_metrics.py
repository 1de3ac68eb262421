"""/metrics: one process from its registry, several from the directory they share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from tests.unit.gateway.api.conftest import Plane


def samples(plane: Plane) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = plane.ask("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_registry_is_what_is_shown(plane: Plane) -> None:
    counter = Counter("tollgate_requests_total", "Requests.", ("tenant",), registry=plane.metrics.registry)
    counter.labels("a").inc(3)
    assert samples(plane)["tollgate_requests_total", frozenset({("tenant", "a")})] == 3


class Watched:
    def collect(self) -> list[GaugeMetricFamily]:
        return [GaugeMetricFamily("tollgate_worker_up", "Up.", value=1.0)]


COUNT = """
from prometheus_client import CollectorRegistry, Counter
Counter("tollgate_requests_total", "Requests.", registry=CollectorRegistry()).inc(2)
"""


def test_several_processes_are_summed(plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for _ in range(2):
        subprocess.run([sys.executable, "-c", COUNT], check=True, env=dict(os.environ))
    plane.metrics.registry.register(Watched())
    shown = samples(plane)
    assert shown["tollgate_requests_total", frozenset()] == 4
    assert shown["tollgate_worker_up", frozenset({("process", str(os.getpid()))})] == 1
