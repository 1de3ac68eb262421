"""A gateway process from its start to its end: what keeps it from starting, and how it leaves."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration
from tests.live_worker import LiveWorker
from tests.wire.answers import chunks
from tests.wire.raw import RawClient, post

PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


def server(**settings: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": 4000, "drain_seconds": 20, **settings}


def request(**fields: Any) -> bytes:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **fields}
    return post(PATH, json.dumps(body).encode(), f"authorization: Bearer {KEY}")


def refuses_connections(gateway: GatewayProcess) -> bool | None:
    try:
        socket.create_connection(("127.0.0.1", gateway.port), 5).close()
    except ConnectionRefusedError:
        return True
    return None


# Beginning


def test_alive_at_once_and_ready_with_its_workers(tmp_path: Path) -> None:
    with LiveWorker() as worker:
        port = worker.port
    with GatewayProcess(tmp_path, configuration({"w0": f"http://127.0.0.1:{port}"})) as gateway:
        with gateway.client() as client:
            assert client.get("/healthz").json() == {"status": "ok"}
            answer = client.get("/readyz")
            assert (answer.status_code, answer.json()["missing"]) == (503, ["tiny"])
        with LiveWorker(port=port):
            gateway.wait_ready()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_port_in_use(processes: int, worker: LiveWorker, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = GatewayProcess(tmp_path, configuration({"w0": worker.url}, server=server(processes=processes)))
        gateway.launch(port)
        assert gateway.wait() == 1
    said = gateway.errors + json.dumps(gateway.log)
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "in use" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("processes", [1, 2])
def test_a_ledger_that_cannot_be_opened(processes: int, worker: LiveWorker, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is no database " * 100)
    gateway = GatewayProcess(tmp_path, configuration({"w0": worker.url}, server=server(processes=processes)))
    gateway.launch()
    assert gateway.wait() == 1
    assert any("not an SQLite database" in line["event"] for line in gateway.log)
    assert "Traceback" not in gateway.errors + json.dumps(gateway.log)


def test_a_configuration_that_is_invalid(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, {"aliases": {"a": "nowhere"}, "modles": {}})
    gateway.launch()
    assert gateway.wait() == 1
    assert "all.yaml:1" in gateway.errors
    assert "nowhere" in gateway.errors
    assert "modles" in gateway.errors
    assert "Traceback" not in gateway.errors


# Ending


def test_what_is_under_way_is_finished(worker: LiveWorker, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, configuration({"w0": worker.url}, server=server())) as gateway:
        gateway.wait_ready()
        with RawClient(gateway.port) as idle, RawClient(gateway.port) as client, RawClient(gateway.port) as waiting:
            idle.send(request())
            assert idle.answer().status == 200
            client.send(request(stream=True, standin={"tokens": 100, "pace": 0.01}))
            waiting.send(request(standin={"header_delay": 1.0}))
            worker.wait_for(active=2)
            gateway.process.send_signal(signal.SIGTERM)
            assert idle.read_to_end() == b""  # nothing is under way on it
            assert eventually(lambda: refuses_connections(gateway), "nobody new is let in")
            assert worker.active >= 1
            streamed, document = client.answer(), waiting.answer()
            assert client.read_to_end() == b""
        assert gateway.wait() == 0
        assert (streamed.complete, len(chunks(streamed.body))) == (True, 101)
        assert document.status == 200
        for answer in (streamed, document):
            assert gateway.rows(answer.headers["x-request-id"])[0]["outcome"] == "ok"
        assert gateway.log[-1]["event"] == "stopped"
        assert gateway.errors == ""


def test_what_takes_longer_than_the_drain_is_told_so(worker: LiveWorker, tmp_path: Path) -> None:
    """A stream, a document, and a stream whose client never reads: none of them keeps the gateway."""
    aborted = worker.aborted
    with GatewayProcess(tmp_path, configuration({"w0": worker.url}, server=server(drain_seconds=0.5))) as gateway:
        gateway.wait_ready()
        with RawClient(gateway.port) as client, RawClient(gateway.port) as waiting, RawClient(gateway.port) as deaf:
            deaf.send(request(stream=True, user="deaf", n=8, max_tokens=32_000, standin={"tokens": 32_000}))
            deaf.read_until(b"data: ")
            client.send(request(stream=True, user="slow", max_tokens=10_000, standin={"tokens": 10_000, "pace": 0.01}))
            waiting.send(request(user="waits", standin={"header_delay": 60}))
            worker.wait_for(active=3)
            client.read_until(b" same")
            gateway.process.send_signal(signal.SIGINT)
            rest = client.read_to_end()
            refused = waiting.answer()
            assert gateway.wait() == 0
        worker.wait_for(aborted=aborted + 3)
        assert b"[DONE]" not in rest
        assert rest.endswith(b"0\r\n\r\n")  # the stream is whole as HTTP, and says itself that it is not
        lines = [line for line in rest.split(b"\n") if line.startswith(b"data: ")]
        assert json.loads(lines[-1].removeprefix(b"data: "))["error"]["code"] == "overloaded"
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        rows = {row["user"]: row for row in gateway.all_rows()}
        assert {user: row["outcome"] for user, row in rows.items()} == {
            "slow": "broken",
            "waits": "failed",
            "deaf": "broken",
        }
        assert rows["slow"]["estimated"] == 1
        assert rows["slow"]["output_tokens"] >= 3
        assert rows["slow"]["cost_nanousd"] > 0
        assert rows["waits"]["cost_nanousd"] == 0
