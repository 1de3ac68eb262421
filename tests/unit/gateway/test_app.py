"""What the composition root does by itself: it reads its parts, and puts tables into effect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.config import load
from gateway.logs import LogWriter
from tests.gateway_process import configuration, tenant, worker_entry


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.chdir(tmp_path)
    written = configuration(
        [worker_entry("w0", "http://127.0.0.1:1"), worker_entry("w1", "https://127.0.0.1:1")],
        tenants={"acme": tenant("sk-test-acme", budget={"usd": 1})},
    )
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "all.yaml").write_text(json.dumps(written))
    with (tmp_path / "log").open("wb") as file:
        log = LogWriter(file.fileno())
        made = Gateway(tmp_path / "config", load(tmp_path / "config"), log)
        yield made
        made.ledger.close()
        log.close()


def test_every_worker_and_every_part_can_be_read(gateway: Gateway) -> None:
    gateway.fleet.apply(gateway.table)
    samples = {
        (sample.name, sample.labels.get("worker", "")): sample.value
        for family in gateway.metrics.registry.collect()
        for sample in family.samples
    }
    for worker in ("w0", "w1"):
        for name in ("up", "inflight", "pending_tokens", "connections", "busy_seconds_total"):
            assert samples[f"tollgate_worker_{name}", worker] == 0
    for name in ("ledger_queued", "ledger_recorded_total", "ledger_dropped_total", "ledger_lag_seconds"):
        assert samples[f"tollgate_{name}", ""] == 0
    for name in ("config_reloads_total", "config_failures_total", "log_dropped_total"):
        assert samples[f"tollgate_{name}", ""] == 0
    assert samples["tollgate_config_valid", ""] == 1


def test_a_new_table_takes_over_as_a_whole(gateway: Gateway, tmp_path: Path) -> None:
    before = gateway.service.revision
    gateway.fleet.apply(gateway.table)
    (tmp_path / "config" / "all.yaml").write_text(json.dumps(configuration({"w2": "http://127.0.0.1:2"})))
    table = load(tmp_path / "config")

    import asyncio

    async def apply() -> None:
        gateway.apply(table)
        await gateway.fleet.stop()

    asyncio.run(apply())
    assert gateway.table is table
    assert gateway.service.revision is not before
    assert [backend.worker.name for backend in gateway.fleet.backends()] == ["w2"]
