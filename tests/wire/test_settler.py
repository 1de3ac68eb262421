"""A gateway and the settler beside it: started again when it dies, replaced when it is told something else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration, tenant
from tests.live_worker import LiveWorker

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as live:
        yield live


def ask(gateway: GatewayProcess) -> str:
    with gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=BODY)
        assert answer.status_code == 200
        return answer.headers["x-request-id"]


def another_settler(gateway: GatewayProcess, than: int) -> int:
    def found() -> int | None:
        try:
            pid = gateway.settler
        except (StopIteration, FileNotFoundError):  # between two
            return None
        return None if pid == than else pid

    return eventually(found, "there is another settler")


def test_a_settler_that_is_killed_is_followed_by_another(worker: LiveWorker, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, configuration({"w0": worker.url})) as gateway:
        gateway.wait_ready()
        assert gateway.rows(ask(gateway))
        killed = gateway.settler
        os.kill(killed, signal.SIGKILL)
        meanwhile = ask(gateway)
        another_settler(gateway, killed)
        assert len(gateway.rows(meanwhile)) == 1
        assert len(gateway.all_rows()) == 2


def test_reservations_that_change_are_told_to_a_new_settler(worker: LiveWorker, tmp_path: Path) -> None:
    written = configuration({"w0": worker.url}, metering={"idle": "by_reservation"})
    with GatewayProcess(tmp_path, written) as gateway:
        gateway.wait_ready()
        first = gateway.settler
        gateway.write({**written, "tenants": {"acme": tenant(KEY, reservation="40%")}})
        another_settler(gateway, first)
        assert len(gateway.rows(ask(gateway))) == 1


def test_without_a_ledger_there_is_no_settler(worker: LiveWorker, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, configuration({"w0": worker.url}, ledger="none")) as gateway:
        gateway.wait_ready()
        ask(gateway)
        with pytest.raises(StopIteration):
            _ = gateway.settler
    assert not (tmp_path / "ledger.db").exists()
    assert not (tmp_path / "ledger.journal").exists()
