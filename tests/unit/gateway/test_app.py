"""What the composition root does by itself: it reads its parts, and puts tables into effect."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import app
from gateway.app import Gateway
from gateway.config import load
from gateway.fleet.added import Entry
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

    async def apply() -> None:
        gateway.apply(table)
        await gateway.fleet.stop()

    asyncio.run(apply())
    assert gateway.table is table
    assert gateway.service.revision is not before
    assert [backend.worker.name for backend in gateway.fleet.backends()] == ["w2"]


def test_added_adapters_are_joined_to_the_table_in_effect(gateway: Gateway, tmp_path: Path) -> None:
    entry = Entry(model="tiny", name="a", path=str(tmp_path.resolve() / "a"))

    async def story() -> None:
        settings = replace(gateway.table.settings, adapter_directories=(str(tmp_path),))
        written = replace(gateway.table, settings=settings)
        gateway.apply(written)
        assert await gateway.added.add(entry)
        assert list(gateway.table.models["tiny"].adapters) == ["a"]
        assert gateway.service.revision.router.names.find("tiny:a") is not None
        renewed = replace(written, revision="renewed")
        gateway.apply(renewed)
        assert list(gateway.table.models["tiny"].adapters) == ["a"]

        broken = {name: replace(worker, ca="no PEM") for name, worker in written.workers.items()}
        with pytest.raises(ssl.SSLError):
            gateway.apply(replace(renewed, revision="broken", workers=broken))
        assert await gateway.added.remove(entry.key)
        assert gateway.table is renewed, "what could not be put into effect is not"
        await gateway.fleet.stop()

    asyncio.run(story())


def test_a_task_that_missed_that_it_is_to_end_is_told_again() -> None:
    """As where a library turns a cancellation into a failure of its own, which the task survives."""
    heard = 0

    async def deaf() -> None:
        nonlocal heard
        while True:
            try:
                await asyncio.sleep(3_600)
            except asyncio.CancelledError:
                heard += 1
                if heard > 1:
                    raise

    async def story() -> None:
        task = asyncio.create_task(deaf())
        await asyncio.sleep(0)
        await app._end([task])  # pyright: ignore[reportPrivateUsage]
        assert task.cancelled()

    asyncio.run(story())
    assert heard == 2
