"""A gateway process from its start to its end: what keeps it from starting, and how it leaves."""

from __future__ import annotations

import ctypes
import json
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration
from tests.live_worker import LiveWorker
from tests.ports import reserved_port
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


def error_at_the_end(stream: bytes) -> dict[str, Any]:
    """The error event of a stream that is whole as HTTP, and says itself that it is not."""
    assert stream.endswith(b"0\r\n\r\n")
    assert b"[DONE]" not in stream
    lines = [line for line in stream.split(b"\n") if line.startswith(b"data: ")]
    return json.loads(lines[-1].removeprefix(b"data: "))["error"]


# Beginning


def test_alive_at_once_and_ready_with_its_workers(tmp_path: Path) -> None:
    port = reserved_port()
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
    said = gateway.errors + json.dumps(gateway.log)
    assert "not an SQLite database" in said
    assert "Traceback" not in said


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
        with RawClient(gateway.port) as client, RawClient(gateway.port) as waiting:
            client.send(request(stream=True, standin={"tokens": 300, "pace": 60}))
            waiting.send(request(standin={"header_delay": 60}))
            worker.wait_for(active=2)
            client.read_until(b"data: ")
            gateway.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: refuses_connections(gateway), "nobody new is let in")
            assert worker.active == 2
            worker.release()
            document = waiting.answer()
            assert waiting.read_to_end() == b""
            rest = client.read_until(b"[DONE]\n\n\r\n0\r\n\r\n")
            # Its head said nothing of an end, so the connection is good for one more.
            client.send(request())
            last = client.answer()
            assert client.read_to_end() == b""
        assert gateway.wait() == 0
        assert b"error" not in rest
        assert (document.status, document.headers["connection"]) == (200, "close")
        assert (last.status, last.headers["connection"]) == (200, "close")
        assert sorted(row["outcome"] for row in gateway.all_rows()) == ["ok", "ok", "ok"]
        assert gateway.log[-1]["event"] == "stopped"
        assert gateway.errors == ""


def test_what_comes_on_kept_connections_is_answered(worker: LiveWorker, tmp_path: Path) -> None:
    """Closing a connection in the moment its client uses it would lose the request."""
    with GatewayProcess(tmp_path, configuration({"w0": worker.url}, server=server())) as gateway:
        gateway.wait_ready()
        with (
            RawClient(gateway.port) as one,
            RawClient(gateway.port) as other,
            RawClient(gateway.port) as slow,
            RawClient(gateway.port) as idle,
            RawClient(gateway.port) as fresh,
        ):
            for client in (one, other, slow, idle):
                client.send(request())
                assert "connection" not in client.answer().headers
            whole = request()
            slow.send(whole[:60])
            fresh.send(b"")
            gateway.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: refuses_connections(gateway), "nobody new is let in")
            one.send(b"GET /readyz HTTP/1.1\r\nhost: gateway\r\n\r\n")
            ready = one.answer()
            other.send(request(stream=True))
            streamed = other.answer()
            slow.send(whole[60:])
            answers = [ready, streamed, slow.answer()]
            assert all(answer.headers["connection"] == "close" for answer in answers)
            for client in (one, other, slow, idle, fresh):
                assert client.read_to_end() == b""  # the idle ones after a while
        assert (ready.status, json.loads(ready.body)) == (503, {"status": "draining"})
        assert len(chunks(streamed.body)) == 17
        assert gateway.wait() == 0


def test_who_waits_to_be_accepted_is_answered(worker: LiveWorker, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, configuration({"w0": worker.url}, server=server())) as gateway:
        gateway.wait_ready()
        gateway.process.send_signal(signal.SIGSTOP)
        clients = [RawClient(gateway.port) for _ in range(20)]  # the kernel has connected them
        for client in clients:
            client.send(request())
        # To the main thread: what a stopped process is sent, any thread may take, when the main one is at work again.
        assert ctypes.CDLL(None).tgkill(gateway.process.pid, gateway.process.pid, signal.SIGTERM) == 0
        gateway.process.send_signal(signal.SIGCONT)
        for client in clients:
            with client:
                answer = client.answer()
                assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert gateway.wait() == 0


def test_a_second_signal_does_not_wait_for_the_drain(worker: LiveWorker, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, configuration({"w0": worker.url}, server=server(drain_seconds=600))) as gateway:
        gateway.wait_ready()
        with RawClient(gateway.port) as client:
            client.send(request(stream=True, max_tokens=30_000, standin={"tokens": 30_000, "pace": 0.02}))
            client.read_until(b" same")
            gateway.process.send_signal(signal.SIGTERM)
            gateway.process.send_signal(signal.SIGINT)  # a terminal and a parent say the same thing twice
            assert eventually(lambda: refuses_connections(gateway), "nobody new is let in")
            client.read_until(b" same")
            sent = threading.Event()

            def insist() -> None:
                while not sent.wait(1.2):
                    gateway.process.send_signal(signal.SIGTERM)

            impatience = threading.Thread(target=insist)
            impatience.start()
            rest = client.read_to_end()
            sent.set()
            impatience.join()
        assert gateway.wait() == 0
        assert error_at_the_end(rest)["code"] == "overloaded"
        (row,) = gateway.all_rows()
        assert (row["outcome"], row["estimated"]) == ("broken", 1)
        assert row["output_tokens"] >= 3


def test_sighup_ends_it_in_good_order(worker: LiveWorker, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, configuration({"w0": worker.url}, server=server())) as gateway:
        assert gateway.stop(signal.SIGHUP) == 0
        assert gateway.log[-1]["event"] == "stopped"


def test_a_collector_that_does_not_answer_keeps_it_only_for_a_moment(worker: LiveWorker, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        written = configuration({"w0": worker.url}, telemetry={"otlp_endpoint": endpoint})
        with GatewayProcess(tmp_path, written) as gateway:
            gateway.wait_ready()
            with RawClient(gateway.port) as client:
                client.send(request())
                assert client.answer().status == 200
            assert gateway.stop() == 0
    assert any("spans were lost" in line["event"] for line in gateway.log)
    assert gateway.log[-1]["event"] == "stopped"


def test_a_ledger_that_takes_no_rows_keeps_it_for_a_moment_and_gets_them_later(
    worker: LiveWorker, tmp_path: Path
) -> None:
    with GatewayProcess(tmp_path, configuration({"w0": worker.url})) as gateway:
        gateway.wait_ready()
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            with RawClient(gateway.port) as client:
                client.send(request())
                answer = client.answer()
            assert gateway.stop() == 0
            assert any("the ledger is not complete" in line["event"] for line in gateway.log)
            assert gateway.log[-1]["event"] == "stopped"
        assert gateway.all_rows() == []
        gateway.start()
        assert gateway.rows(answer.headers["x-request-id"])  # the next start settles what the journal has


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
        assert error_at_the_end(rest)["code"] == "overloaded"
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
