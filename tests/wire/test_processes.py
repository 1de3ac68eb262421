"""`processes: 2`: one port, two processes that stand in for each other, one parent that answers for both."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.eventually import eventually
from tests.gateway_process import GatewayProcess, configuration
from tests.live_worker import LiveWorker

PATH = "/v1/chat/completions"
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}

Line = dict[str, Any]


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


def written(worker: LiveWorker, **changes: Any) -> dict[str, Any]:
    server = {"host": "127.0.0.1", "port": 4000, "drain_seconds": 5, "processes": 2}
    return configuration({"w0": worker.url}, server=server, **changes)


@pytest.fixture
def gateway(worker: LiveWorker, tmp_path: Path) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path, written(worker))
    gateway.start()
    gateway.wait_log(times(2, lambda line: line["event"] == "listening"))
    gateway.wait_log(times(2, lambda line: line["event"] == "worker up"))
    yield gateway
    if gateway.process.poll() is None:
        gateway.stop()


def times(count: int, is_it: Callable[[Line], bool]) -> Callable[[Line], bool]:
    """Whether a line is the `count`-th that `is_it`."""
    found = 0

    def is_last(line: Line) -> bool:
        nonlocal found
        found += is_it(line)
        return found == count

    return is_last


def children(gateway: GatewayProcess) -> list[int]:
    pid = gateway.process.pid
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if not is_gone(int(child))]


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except FileNotFoundError:
        return True
    return state.startswith("Z")


def ask(gateway: GatewayProcess, model: str = "tiny") -> httpx2.Response:
    """On a connection of its own, which the kernel gives to either process."""
    with gateway.client() as client:
        answer = client.post(PATH, json={**BODY, "model": model})
    assert answer.status_code == 200
    return answer


def test_two_serve_as_one(gateway: GatewayProcess, worker: LiveWorker) -> None:
    answers = [ask(gateway) for _ in range(30)]
    eventually(lambda: gateway.metric("tollgate_requests_total", status="200") == 30 or None, "either counts for both")
    eventually(lambda: len(gateway.all_rows()) == 30 or None, "both write one ledger")
    cost = sum(round(float(answer.headers["x-tollgate-cost-usd"]) * 1e9) for answer in answers)
    assert sum(row["cost_nanousd"] for row in gateway.all_rows()) == cost
    assert gateway.metric("tollgate_cost_usd_total") == pytest.approx(cost / 1e9)
    # What is read at the moment of asking is of the process that is asked, and says so.
    assert len({labels["process"] for labels, _ in gateway.samples("tollgate_worker_up")}) == 1

    gateway.write(written(worker, aliases={"gpt-9": "tiny"}))
    gateway.wait_log(times(2, lambda line: "is in effect, after" in line["event"]))
    for _ in range(10):
        ask(gateway, "gpt-9")
    eventually(lambda: gateway.metric("tollgate_requests_total") == 40 or None, "all are counted")

    victim, survivor = children(gateway)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: is_gone(victim) or None, "one is killed")
    for _ in range(10):
        ask(gateway)
    gateway.wait_log(times(3, lambda line: line["event"] == "listening"))
    assert survivor in children(gateway)
    assert len(children(gateway)) == 2
    eventually(lambda: gateway.metric("tollgate_requests_total") >= 50 or None, "what the dead one counted is kept")

    assert gateway.stop() == 0
    assert f"gateway process {victim} ended with -9: starting another" in gateway.errors
    assert [line["event"] for line in gateway.log].count("stopped") == 2


def test_when_the_parent_is_killed_no_child_stays(gateway: GatewayProcess) -> None:
    pids = children(gateway)
    assert len(pids) == 2
    gateway.process.kill()
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid) or None, f"child {pid} is gone")
    assert gateway.wait() == -signal.SIGKILL
    assert [line["event"] for line in gateway.log].count("stopped") == 2  # and they left in good order
