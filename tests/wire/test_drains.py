"""A drain by the API of one gateway of several processes: all of them keep it, over a reload and a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.eventually import eventually, promised
from tests.gateway_process import ADMIN_KEY, GatewayProcess, configuration, worker_entry
from tests.live_worker import LiveWorker

BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
SPREAD_SECONDS = 2.0
EACH = 16  # connections, so that the kernel deals some to every process


def order(gateway: GatewayProcess, name: str, what: str) -> Any:
    with gateway.client(ADMIN_KEY) as client:
        answer = client.post(f"/admin/v1/workers/{name}/{what}")
        assert answer.status_code == 200, answer.text
        return answer.json()


def draining(gateway: GatewayProcess) -> set[tuple[str, ...]]:
    """What the processes say who is drained, each connection another one's answer."""
    said: set[tuple[str, ...]] = set()
    for _ in range(EACH):
        workers = gateway.admin("workers")["workers"]
        said.add(tuple(worker["name"] for worker in workers if worker["draining"]))
    return said


def everywhere(gateway: GatewayProcess, *names: str) -> None:
    promised(lambda: draining(gateway) == {names} or None, f"drained everywhere: {names}", SPREAD_SECONDS)


def asked(client: httpx2.Client) -> int:
    return client.post("/v1/chat/completions", json=BODY).status_code


@pytest.mark.timeout(90)
def test_a_drain_holds_in_every_process_over_reload_and_restart(tmp_path: Path) -> None:
    with LiveWorker() as first, LiveWorker() as second:
        server = {"host": "127.0.0.1", "port": 4000, "drain_seconds": 5, "processes": 2}
        written = configuration({"w0": first.url, "w1": second.url}, server=server)
        with GatewayProcess(tmp_path, written) as gateway:
            gateway.wait_processes(2)
            gateway.wait_up()
            answer = order(gateway, "w0", "drain")
            assert (answer["draining"], answer["shared"]) == (True, True)
            everywhere(gateway, "w0")
            before = len(first.arrivals())
            for _ in range(EACH):
                with gateway.client() as client:
                    assert asked(client) == 200
            assert len(first.arrivals()) == before

            more = worker_entry("w0", first.url, max_inflight=5), worker_entry("w1", second.url)
            gateway.write(configuration(list(more), server=server))
            revision = gateway.admin("config")["revision"]
            eventually(lambda: gateway.admin("config")["revision"] != revision or None, "the reload")
            everywhere(gateway, "w0")
        gateway.start()
        try:
            everywhere(gateway, "w0")
            order(gateway, "w0", "undrain")
            everywhere(gateway)
        finally:
            gateway.stop()
