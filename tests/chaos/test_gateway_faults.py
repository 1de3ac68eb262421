"""What goes wrong around a running gateway: its log's reader, its ledger's disk. Serving goes on."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.eventually import eventually
from tests.gateway_process import GatewayProcess, configuration
from tests.live_worker import LiveWorker
from tests.ports import reserved_port

PATH = "/v1/chat/completions"
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
PIPE_BYTES = 64 * 1024  # what a pipe holds that nobody reads


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


@pytest.fixture(scope="module")
def port() -> int:
    return reserved_port()


@contextmanager
def unread(directory: Path, port: int, written: dict[str, Any]) -> Iterator[GatewayProcess]:
    """A gateway whose log nobody reads before the test says so."""
    gateway = GatewayProcess(directory, written)
    gateway.launch(port, read=False)
    gateway.port, gateway.url = port, f"http://127.0.0.1:{port}"

    def ready() -> bool | None:
        try:
            with gateway.client() as client:
                return client.get("/readyz").status_code == 200 or None
        except httpx2.ConnectError:
            return None

    try:
        eventually(ready, "the gateway is ready")
        yield gateway
    finally:
        if gateway.process.poll() is None:
            gateway.process.kill()
            gateway.process.wait()
        assert gateway.process.stdout is not None
        gateway.process.stdout.close()


def ask_often(gateway: GatewayProcess, count: int) -> None:
    with gateway.client() as client:
        for _ in range(count):
            assert client.post(PATH, json=BODY).status_code == 200


# The log


def test_a_log_that_nobody_reads(worker: LiveWorker, port: int, tmp_path: Path) -> None:
    with unread(tmp_path, port, configuration({"w0": worker.url})) as gateway:
        ask_often(gateway, 500)
        gateway.process.send_signal(signal.SIGTERM)
        gateway.read()
        assert gateway.wait() == 0
    requests = [line for line in gateway.log if line["event"] == "request"]
    assert len(str(requests)) > 2 * PIPE_BYTES
    assert len(requests) == 500  # read late, but all of it


def test_a_log_whose_reader_goes_away(worker: LiveWorker, port: int, tmp_path: Path) -> None:
    with unread(tmp_path, port, configuration({"w0": worker.url})) as gateway:
        assert gateway.process.stdout is not None
        gateway.process.stdout.close()
        ask_often(gateway, 50)
        eventually(lambda: gateway.metric("tollgate_log_dropped_total") or None, "what is dropped is counted")
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(30) == 0
    assert len(gateway.all_rows()) == 50
    assert gateway.errors == ""


def test_two_processes_share_a_log_that_is_read_slowly(worker: LiveWorker, port: int, tmp_path: Path) -> None:
    """Neither's lines come between the parts of the other's."""
    server = {"host": "127.0.0.1", "port": 4000, "drain_seconds": 5, "processes": 2}
    with unread(tmp_path, port, configuration({"w0": worker.url}, server=server)) as gateway:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: ask_often(gateway, 60), range(6)))
        gateway.process.send_signal(signal.SIGTERM)
        gateway.read()  # which fails on a line that is not JSON
        assert gateway.wait() == 0
    assert len([line for line in gateway.log if line["event"] == "request"]) == 360


# The ledger


def test_a_ledger_that_is_moved_away_and_back(worker: LiveWorker, tmp_path: Path) -> None:
    ledger, away = tmp_path / "ledger.db", tmp_path / "away.db"
    with GatewayProcess(tmp_path, configuration({"w0": worker.url})) as gateway:
        gateway.wait_ready()
        ask_often(gateway, 10)
        eventually(lambda: len(gateway.all_rows()) == 10 or None, "ten are written")
        ledger.rename(away)
        ask_often(gateway, 20)
        gateway.wait_log(lambda line: "Records wait in the journal" in line["event"])
        eventually(lambda: gateway.metric("tollgate_ledger_queued") == 20 or None, "twenty wait, as the settler says")
        eventually(lambda: gateway.metric("tollgate_ledger_lag_seconds") or None, "they are missed")
        away.rename(ledger)
        eventually(lambda: len(gateway.all_rows()) == 30 or None, "all are written")
        eventually(lambda: gateway.metric("tollgate_ledger_queued") == 0 or None, "nothing waits any more")


def test_a_ledger_whose_disk_takes_no_more(worker: LiveWorker, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, configuration({"w0": worker.url})) as gateway:
        gateway.wait_ready()
        ask_often(gateway, 10)
        eventually(lambda: len(gateway.all_rows()) == 10 or None, "ten are written")
        limit_files(gateway.settler, 0)
        ask_often(gateway, 20)
        gateway.wait_log(lambda line: "Records wait in the journal" in line["event"])
        limit_files(gateway.settler, resource.RLIM_INFINITY)
        eventually(lambda: len(gateway.all_rows()) == 30 or None, "all are written")


def test_what_could_not_be_written_is_settled_by_the_next_start(worker: LiveWorker, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, configuration({"w0": worker.url})) as gateway:
        gateway.wait_ready()
        (tmp_path / "ledger.db").rename(tmp_path / "away.db")
        ask_often(gateway, 3)
        assert gateway.stop() == 0
        (tmp_path / "away.db").rename(tmp_path / "ledger.db")
        assert gateway.all_rows() == []
        gateway.start()
        eventually(lambda: len(gateway.all_rows()) == 3 or None, "all are written")


def limit_files(pid: int, size: int) -> None:
    """How large a process's files may become, as if a disk were full; its pipes know no such limit."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


# The whole process


def test_a_gateway_that_is_killed_starts_again_where_it_was(worker: LiveWorker, tmp_path: Path) -> None:
    config: dict[str, Any] = configuration({"w0": worker.url})
    with GatewayProcess(tmp_path, config) as gateway:
        gateway.wait_ready()
        ask_often(gateway, 50)
        eventually(lambda: len(gateway.all_rows()) >= 40 or None, "most are written")
        assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
        before = gateway.all_rows()
    with GatewayProcess(tmp_path, config) as again:
        again.wait_ready()
        ask_often(again, 10)
        eventually(lambda: len(again.all_rows()) == len(before) + 10 or None, "all are written")
        assert again.all_rows()[: len(before)] == before
