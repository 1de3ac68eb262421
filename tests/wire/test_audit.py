"""Whatever becomes of requests and gateways: soon after, the ledger has the worker's own count of tokens."""

from __future__ import annotations

import asyncio
import random
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from loadtests.audit import books, traffic
from loadtests.audit.books import Tally
from loadtests.client import Target
from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration
from tests.live_worker import LiveWorker

MODEL = "tiny"
HEADERS = (("authorization", f"Bearer {KEY}"),)


@pytest.fixture
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        worker.behave(tokens=60, header_delay=0.02, pace=0.004)
        yield worker


@pytest.fixture
def gateway(tmp_path: Path, worker: LiveWorker) -> Iterator[GatewayProcess]:
    written = configuration({"w": worker.url}, metering={"readings": "100ms"})
    with GatewayProcess(tmp_path, written) as gateway:
        yield gateway


def settled(gateway: GatewayProcess, worker: LiveWorker) -> Tally:
    """The ledger's tally of all that the worker ever did, once it is the worker's own."""
    worker.wait_idle()

    def same() -> Tally | None:
        found = books.tally(gateway.directory / "ledger.db", "w", 0.0)
        return found if (found.prompt_tokens, found.output_tokens) == books.counters(worker.url) else None

    return eventually(same, "the ledger has the worker's count")


def test_clients_that_leave_at_every_moment(gateway: GatewayProcess, worker: LiveWorker) -> None:
    asks = traffic.asks(random.Random(3), MODEL, 40, 0.3)
    asyncio.run(traffic.run(Target(gateway.url, HEADERS), asks, clients=8))
    found = settled(gateway, worker)
    assert found.outcomes["aborted"] == found.estimated > 5
    assert 0 < found.corrections <= 2 * found.estimated  # what is no multiple of the choices has a row of its own


def test_a_gateway_that_is_killed(gateway: GatewayProcess, worker: LiveWorker) -> None:
    """Its worker went on until the connections broke, and told nobody how far it came."""
    worker.behave(tokens=1_000, pace=0.01)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with httpx2.Client(base_url=gateway.url, headers=dict(HEADERS), timeout=30) as client:
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            for _ in range(20):
                next(lines)
            gateway.process.kill()
            assert gateway.wait() == -signal.SIGKILL
    gateway.start()
    found = settled(gateway, worker)
    assert found.outcomes["crashed"] == found.estimated == 1
    assert found.corrections == 1


def test_who_goes_past_the_gateway_is_seen(tmp_path: Path, worker: LiveWorker) -> None:
    written = configuration({"w": worker.url}, metering={"readings": "100ms", "audit": {"every": "3s"}})

    def drift() -> float | None:
        text = httpx2.get(f"{gateway.url}/metrics").text
        found = re.search(r'^tollgate_ledger_drift_ratio\{worker="w"\} (\S+)$', text, re.MULTILINE)
        return None if found is None else float(found[1])

    with GatewayProcess(tmp_path, written) as gateway:
        eventually(lambda: drift() == 0.0, "an audit that finds nothing")
        body = {"model": "tiny@v1", "prompt": "past it", "max_tokens": 50}
        assert httpx2.post(f"{worker.url}/v1/completions", json=body, timeout=30).status_code == 200
        eventually(lambda: (drift() or 0.0) > 0.5, "what it took is drift")
        gateway.wait_log(lambda line: line["event"] == "ledger and worker differ")
