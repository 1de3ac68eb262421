"""Replicas of a gateway over Redis and PostgreSQL, killed under traffic: what the worker did is in the ledger, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger.journal.reader import journals
from loadtests.crash.acts import Nobody, open_store_sink, recover
from tests.gateway_process import GatewayProcess, configuration
from tests.ledger_processes import check, processes_of
from tests.live_worker import LiveWorker
from tests.patient_clients import Clients
from tests.redis.conftest import RedisServer

BETWEEN = 20  # answers


@pytest.fixture
def worker() -> Iterator[LiveWorker]:
    with LiveWorker(record=100_000) as worker:
        yield worker


@pytest.mark.redis
def test_replicas_of_which_one_is_killed_with_all_it_carries(
    worker: LiveWorker, tmp_path: Path, url: str, redis_server: RedisServer
) -> None:
    """Each has its settler and its consumer, on what would be machines of their own."""
    replicas = [
        GatewayProcess(
            tmp_path / name,
            configuration(
                {"w0": worker.url},
                ledger=url,
                state=redis_server.url,
                metering={"journal": str(tmp_path / name / "ledger.journal"), "readings": "200ms"},
            ),
        )
        for name in ("a", "b")
    ]
    survivor, victim = replicas
    with survivor, Clients() as clients, Clients() as others:
        victim.start()
        clients.turn_to(survivor.port)
        others.turn_to(victim.port)
        others.wait_for_more(BETWEEN)
        for pid in (victim.process.pid, *processes_of(victim)[0]):
            os.kill(pid, signal.SIGKILL)
        victim.wait()
        clients.wait_for_more(BETWEEN)
        assert journals(tmp_path / "b" / "ledger.journal")
        victim.start()
        others.turn_to(victim.port)
        others.wait_for_more(BETWEEN)
        victim.stop()
    for name in ("a", "b"):  # what a killed consumer had taken is another's only after a while, which nobody waits for
        recover(tmp_path / name / "ledger.journal", open_store_sink(url), Nobody(url))
    rows = check(tmp_path / "b", worker, url)
    assert sum(row["outcome"] == "ok" for row in rows) >= 3 * BETWEEN
