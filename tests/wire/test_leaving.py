"""A client that goes away, at every moment of its request: the engine stops, and the bill has what was done."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, Row, configuration, worker_entry
from tests.live_worker import LiveWorker, http_answer
from tests.wire.raw import RawClient, post

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker(["tiny@v1"]) as worker:
        yield worker


@pytest.fixture(scope="module")
def second() -> Iterator[LiveWorker]:
    with LiveWorker(["tiny@v2"]) as worker:
        yield worker


@pytest.fixture(scope="module")
def gateway(
    worker: LiveWorker, second: LiveWorker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    written = configuration(
        [worker_entry("w0", worker.url), worker_entry("w1", second.url, serves="tiny@v2")],
        models={"tiny": {"context": 32768, "versions": {"v1": {}, "v2": {}}}},
        routes=[{"name": "safe", "match": {"model": "safe"}, "candidates": ["tiny@v1"], "fallback": ["tiny@v2"]}],
    )
    with GatewayProcess(tmp_path_factory.mktemp("leaving"), written) as gateway:
        gateway.wait_up()
        yield gateway


def request(path: str = "/v1/chat/completions", model: str = "tiny@v1", **fields: Any) -> bytes:
    said = {"prompt": "hi"} if path == "/v1/completions" else {"messages": MESSAGES}
    body = json.dumps({"model": model, **said, **fields}).encode()
    return post(path, body, f"authorization: Bearer {KEY}")


def aborted_row(gateway: GatewayProcess, known: set[str]) -> Row:
    """The one aborted row that was not there before."""

    def find() -> Row | None:
        return next((r for r in gateway.all_rows() if r["outcome"] == "aborted" and r["attempt_id"] not in known), None)

    return eventually(find, "the aborted attempt is in the ledger")


@pytest.fixture
def known(gateway: GatewayProcess) -> set[str]:
    """The attempts that were in the ledger when the test began."""
    return {row["attempt_id"] for row in gateway.all_rows()}


# At every moment


def test_before_a_document_comes(gateway: GatewayProcess, worker: LiveWorker, known: set[str]) -> None:
    aborts = gateway.metric("tollgate_aborts_total", phase="waiting")
    before = worker.aborted
    with RawClient(gateway.port) as client:
        client.send(request(max_tokens=7, n=2, standin={"header_delay": 60}))
        worker.wait_for(active=1)
    worker.wait_for(aborted=before + 1)
    row = aborted_row(gateway, known)
    assert (row["estimated"], row["status"], row["worker"]) == (1, 0, "w0")
    assert row["prompt_tokens"] > 0
    assert row["output_tokens"] <= 14
    assert row["cost_nanousd"] > 0
    line = gateway.request_line(row["request_id"])
    assert (line["outcome"], line["status"], line["estimated"]) == ("aborted", 499, True)
    assert gateway.metric("tollgate_aborts_total", phase="waiting") == aborts + 1


def test_in_the_middle_of_a_document(gateway: GatewayProcess, worker: LiveWorker, known: set[str]) -> None:
    before = worker.aborted
    with RawClient(gateway.port) as client:
        client.send(request(standin={"fault": "stuck"}))
        worker.wait_for(active=1)
    worker.wait_for(aborted=before + 1)
    assert aborted_row(gateway, known)["estimated"] == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/messages"])
def test_before_the_first_token(path: str, gateway: GatewayProcess, worker: LiveWorker, known: set[str]) -> None:
    before = worker.aborted
    with RawClient(gateway.port) as client:
        client.send(request(path, stream=True, max_tokens=50, standin={"first_token_delay": 60}))
        worker.wait_for(active=1)
    worker.wait_for(aborted=before + 1)
    row = aborted_row(gateway, known)
    assert (row["estimated"], row["ttft_seconds"], row["output_tokens"]) == (1, None, 0)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/messages"])
@pytest.mark.parametrize("usage", [{}, {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}])
def test_in_the_middle_of_a_stream(
    path: str, usage: dict[str, Any], gateway: GatewayProcess, worker: LiveWorker, known: set[str]
) -> None:
    aborts = gateway.metric("tollgate_aborts_total", phase="streaming")
    before = worker.aborted
    wish = {"tokens": 10_000, "pace": 0.02}
    with RawClient(gateway.port) as client:
        client.send(request(path, stream=True, max_tokens=10_000, standin=wish, **usage))
        seen = client.read_until(b" same")
    worker.wait_for(aborted=before + 1)
    row = aborted_row(gateway, known)
    assert (row["estimated"], row["status"]) == (1, 200)
    assert row["prompt_tokens"] > 0
    assert seen.count(b"data: ") - 3 <= row["output_tokens"] <= worker.tokens_sent() + 3
    assert row["output_tokens"] >= 3
    assert row["ttft_seconds"] is not None
    assert gateway.metric("tollgate_aborts_total", phase="streaming") == aborts + 1


def test_with_a_reset(gateway: GatewayProcess, worker: LiveWorker, known: set[str]) -> None:
    before = worker.aborted
    connection = socket.create_connection(("127.0.0.1", gateway.port), 30)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.sendall(request(stream=True, standin={"tokens": 10_000, "pace": 0.02}))
    worker.wait_for(active=1)
    connection.close()
    worker.wait_for(aborted=before + 1)
    assert aborted_row(gateway, known)["estimated"] == 1


def test_while_another_worker_is_tried(
    gateway: GatewayProcess, worker: LiveWorker, second: LiveWorker, known: set[str]
) -> None:
    before = second.aborted
    worker.behave(fault="refuse", status=503)
    second.behave(header_delay=60)
    with RawClient(gateway.port) as client:
        client.send(request(model="safe"))
        second.wait_for(active=1)
    second.wait_for(aborted=before + 1)
    worker.behave()
    second.behave()
    row = aborted_row(gateway, known)
    assert row["worker"] == "w1"
    assert [one["outcome"] for one in gateway.rows(row["request_id"], 2)] == ["failed", "aborted"]


def test_many_at_once(gateway: GatewayProcess, worker: LiveWorker) -> None:
    before = worker.aborted
    clients = [RawClient(gateway.port) for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(request(stream=bool(number % 2), standin={"first_token_delay": 60, "tokens": number + 1}))
    worker.wait_for(active=50)
    for client in clients:
        client.leave()
    worker.wait_for(aborted=before + 50)


# What is no abort


def test_after_the_answer(gateway: GatewayProcess, worker: LiveWorker) -> None:
    aborts = gateway.metric("tollgate_aborts_total")
    before = worker.aborted
    with RawClient(gateway.port) as client:
        client.send(request())
        answer = client.answer()
    (row,) = gateway.rows(answer.headers["x-request-id"])
    assert row["outcome"] == "ok"
    assert gateway.metric("tollgate_aborts_total") == aborts
    assert worker.aborted == before


def test_before_the_request_is_whole(gateway: GatewayProcess) -> None:
    requests = gateway.metric("tollgate_requests_total")
    with RawClient(gateway.port) as client:
        client.send(request()[:-5])
    with RawClient(gateway.port) as client:  # the gateway is none the worse
        client.send(request())
        assert client.answer().status == 200
    assert gateway.metric("tollgate_requests_total") == requests + 1


def test_nothing_stays_in_flight(gateway: GatewayProcess, worker: LiveWorker) -> None:
    """Comes last, after all of the above."""
    worker.wait_idle()

    def idle() -> bool | None:
        return (
            gateway.metric("tollgate_worker_inflight") == 0 == gateway.metric("tollgate_worker_pending_tokens")
        ) or None

    eventually(idle, "no worker has anything in flight")


# While connecting


class Freezing:
    """A worker that answers until it is frozen: from then on the kernel lets nobody connect."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._frozen = threading.Event()
        self._filling: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._frozen.set()
        self._listener.close()
        for connection in self._filling:
            connection.close()
        self._thread.join(30)

    def _serve(self) -> None:
        document = {"object": "list", "data": [{"id": "tiny@v1"}], "choices": []}
        while not self._frozen.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                if not self._frozen.is_set():
                    connection.recv(65536)
                    connection.sendall(http_answer(json.dumps(document).encode(), more=b"connection: close\r\n"))

    def freeze(self) -> None:
        """Fills the queue of connections that nobody accepts, until the kernel drops the next one."""
        self._frozen.set()
        address = self._listener.getsockname()
        socket.create_connection(address).close()  # lets the accepting thread see that it is over
        self._thread.join(30)
        while True:
            connection = socket.socket()
            self._filling.append(connection)
            connection.settimeout(0.3)
            try:
                connection.connect(address)
            except TimeoutError:
                return


def test_while_connecting(tmp_path: Path) -> None:
    with Freezing() as worker:
        written = configuration({"w0": worker.url}, probe={"every": "30s", "wait": "2s"})
        with GatewayProcess(tmp_path, written) as gateway:
            gateway.wait_up()
            worker.freeze()
            with RawClient(gateway.port) as client:
                client.send(request())
                eventually(lambda: gateway.metric("tollgate_worker_inflight") or None, "the request is under way")
            row = aborted_row(gateway, set())
            assert (row["worker"], row["estimated"], row["output_tokens"]) == ("w0", 1, 0)
            assert gateway.metric("tollgate_worker_inflight") == 0
            assert gateway.metric("tollgate_aborts_total", phase="waiting") == 1
