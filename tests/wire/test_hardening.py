"""What a hostile client or worker may try, against a whole gateway: refused in the open, logged, counted, and without
a trace of one exchange in another."""

from __future__ import annotations

import json
import resource
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from gateway.descriptors import clients_within
from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration
from tests.live_worker import LiveWorker, ScriptedWorker, http_answer, http_stream
from tests.unit.gateway.downstream.test_framing import AMBIGUOUS
from tests.wire.answers import OURS, checked
from tests.wire.raw import Answer, RawClient, chunked, head, post

CHAT = "/v1/chat/completions"
AUTH = f"authorization: Bearer {KEY}"
MESSAGES = [{"role": "user", "content": "hi"}]


def body(**fields: object) -> bytes:
    return json.dumps({"model": "tiny", "messages": MESSAGES, **fields}).encode()


# What a worker says of itself, and what it might try to slip into an answer.
TELLING = (
    b"server: uvicorn\r\nx-internal: 10.0.0.5\r\nset-cookie: a=b\r\nvia: 1.1 inner\r\nlocation: http://10.0.0.5/\r\n"
    b"keep-alive: timeout=5\r\nproxy-authenticate: Basic\r\ntrailer: x-t\r\nconnection: x-internal\r\n"
    b"x-request-id: theirs\r\nx-tollgate-worker: other\r\nretry-after: 99\r\n"
)
FAILED = b'{"error":{"message":"cannot reach 10.0.0.5","type":"x","code":null}}'
TINY = b'{"model":"tiny@v1","choices":[]}'
EVENTS = (b'data: {"model":"tiny@v1","choices":[{"index":0}]}\n\n', b"data: [DONE]\n\n")
SCRIPTS = {
    "ok": http_answer(TINY, more=TELLING),
    "stream": http_stream(*EVENTS).replace(b"\r\n", b"\r\n" + TELLING, 1),
    "trailers": http_stream(*EVENTS)[:-2] + TELLING + b"\r\n",
    "redirect": http_answer(b"", b"302 Found", more=TELLING),
    "failed": http_answer(FAILED, b"500 Internal Server Error", more=TELLING),
    "busy": http_answer(FAILED, b"503 Service Unavailable", more=TELLING),
    "its key": http_answer(FAILED, b"401 Unauthorized", more=TELLING),
    "a folded type": http_answer(TINY, content_type=b"application/json\r\n x-evil: 1"),
    "a type with CR": http_answer(TINY, content_type=b"application/json\rx-evil: 1"),
    "a type with LF": http_answer(TINY, content_type=b"application/json\nx-evil: 1"),
    "a type with NUL": http_answer(TINY, content_type=b"application/json\0x-evil: 1"),
    "a reason": http_answer(TINY, b"200 OK x-evil: 1"),
}


@pytest.fixture(scope="module")
def worker() -> Iterator[ScriptedWorker]:
    with ScriptedWorker(**SCRIPTS) as worker:
        yield worker


@pytest.fixture(scope="module")
def gateway(worker: ScriptedWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    written = configuration(
        {"w0": worker.url},
        models={"tiny": {"context": 10_000_000, "versions": {"v1": {}}}},
        routes=[{"name": "all", "match": {}, "candidates": ["tiny"], "cache": {"when": "never"}}],
    )
    with GatewayProcess(tmp_path_factory.mktemp("hardening"), written) as gateway:
        gateway.wait_up()
        yield gateway


def refusal(gateway: GatewayProcess, answer: Answer, endpoint: str = "") -> str:
    """The code of a refusal that has everything an answer has, a line in the log and a count in the metrics."""
    assert answer.complete
    assert set(answer.headers) <= OURS
    line = gateway.request_line(answer.headers["x-request-id"])
    assert (line["status"], line["outcome"], line["endpoint"]) == (answer.status, "rejected", endpoint)
    error = checked(json.loads(answer.body)["error"])
    assert line["error"]["code"] == error["code"]
    counted = gateway.metric("tollgate_requests_total", status=str(answer.status), endpoint=endpoint)
    assert counted >= 1
    return error["code"]


# What a connection refuses by itself


def test_what_is_not_http_is_logged_and_counted(gateway: GatewayProcess) -> None:
    before = gateway.metric("tollgate_requests_total", status="400", endpoint="")
    with RawClient(gateway.port) as client:
        client.send(b"GARBAGE\r\n\r\n")
        assert refusal(gateway, client.answer()) == "invalid_http"
        assert client.read_to_end() == b""
    assert gateway.metric("tollgate_requests_total", status="400", endpoint="") == before + 1


def test_so_are_a_large_head_and_a_large_body(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(head(CHAT, "x: " + "x" * 100_000))
        assert refusal(gateway, client.answer()) == "headers_too_large"
    with RawClient(gateway.port) as client:
        client.send(head(CHAT, AUTH, f"content-length: {10**9}"))
        answer = client.answer()
        assert refusal(gateway, answer, "chat.completions") == "request_too_large"
        assert gateway.request_line(answer.headers["x-request-id"])["tenant"] == "acme"


@pytest.mark.parametrize("how", ["length", "chunks", "expect"])
def test_a_large_body_without_a_key_is_refused_before_it_comes(how: str, gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        how_long = {"length": "content-length: 10000000", "chunks": "transfer-encoding: chunked"}
        expect = ["content-length: 10", "expect: 100-continue"]
        client.send(head(CHAT, *([how_long[how]] if how in how_long else expect)))
        answer = client.answer()
        assert answer.status == 401
        assert refusal(gateway, answer, "chat.completions") == "invalid_api_key"


def test_a_large_body_with_a_key_that_comes_in_pieces_is_taken(gateway: GatewayProcess) -> None:
    large = body(padding="x" * 1_000_000)
    with RawClient(gateway.port) as client:
        sent = post(CHAT, large, AUTH)
        for start in range(0, len(sent), 200_000):
            client.send(sent[start : start + 200_000])
        assert client.answer().status == 200
        client.send(head(CHAT, AUTH, "transfer-encoding: chunked"), *chunked([large[:500_000], large[500_000:]]))
        assert client.answer().status == 200
    assert gateway.metric("tollgate_receiving_bytes") == 0


# Smuggling: what hides behind an ambiguous request never reaches a worker


def test_nothing_hidden_reaches_a_worker(gateway: GatewayProcess, worker: ScriptedWorker) -> None:
    worker.asked.clear()
    hidden = post(CHAT, body(user="hidden"), AUTH)
    for name, sent in AMBIGUOUS.items():
        with RawClient(gateway.port) as client:
            client.send(sent.replace(b"\r\nhost", f"\r\n{AUTH}\r\nhost".encode(), 1) + hidden)
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (400, "close"), name
            assert client.read_to_end() == b"", name
    assert worker.asked == []
    with RawClient(gateway.port) as client:  # read in one way only: both are requests, and no more than both
        client.send(head(CHAT, AUTH, "transfer-encoding: chunked"), *chunked([body(user="first")]), hidden)
        assert [answer.status for answer in client.answers(2)] == [200, 200]
    assert [json.loads(asked)["user"] for _, asked in worker.asked] == ["first", "hidden"]


# Splitting: nothing a client or a worker says becomes a header line

BREAKS = ["\r\nx-evil: 1", "\nx-evil: 1", "\rx-evil: 1", "\0x-evil: 1", "\u2028x-evil: 1", "\r\n\r\nHTTP/1.1 200 OK"]


@pytest.mark.parametrize("text", BREAKS)
def test_a_clients_words_do_not_become_header_lines(text: str, gateway: GatewayProcess, worker: ScriptedWorker) -> None:
    worker.asked.clear()
    for fields in (
        {"model": "tiny" + text},
        {"model": "tiny@v1" + text},
        {"user": text},
        {"routing": {"only": [text]}},
    ):
        with RawClient(gateway.port) as client:
            client.send(post(CHAT, body(**fields), AUTH))
            assert set(client.answer().headers) <= OURS
            client.send(post(CHAT, body(), AUTH))
            assert client.answer().status == 200
    assert all(b"x-evil" not in asked for asked, _ in worker.asked)


@pytest.mark.parametrize(
    "line",
    [
        "content-type: application/json\x0bx-evil: 1",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\tx-evil: 1",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01, x-evil: 1",
        "content-type: multipart/form-data; boundary=\x01",
    ],
)
def test_nor_do_its_header_values(line: str, gateway: GatewayProcess, worker: ScriptedWorker) -> None:
    worker.asked.clear()
    with RawClient(gateway.port) as client:
        client.send(post("/v1/audio/transcriptions", b"x", AUTH, line))
        client.answer()
    with RawClient(gateway.port) as client:
        client.send(post(CHAT, body(), AUTH, line))
        client.answer()
    assert all(b"x-evil" not in asked and b"\x01" not in asked for asked, _ in worker.asked)


def test_only_chosen_headers_of_a_client_reach_its_worker(gateway: GatewayProcess, worker: ScriptedWorker) -> None:
    worker.asked.clear()
    hop_by_hop = ["x-hop: 1", "keep-alive: timeout=5", "te: trailers", "trailer: x", "proxy-authorization: Basic eDp5"]
    spoofed = ["x-forwarded-for: 10.0.0.1", "x-request-id: mine", "cookie: a=b", "forwarded: for=1", "x-api-key: other"]
    with RawClient(gateway.port) as client:
        client.send(post(CHAT, body(), AUTH, "connection: keep-alive, x-hop", *hop_by_hop, *spoofed))
        answer = client.answer()
        assert answer.status == 200
    ((asked, _),) = worker.asked
    lines = dict(line.split(": ", 1) for line in asked.decode().split("\r\n")[1:-2])
    assert set(lines) == {"host", "content-type", "content-length", "x-request-id"}
    assert lines["x-request-id"] == answer.headers["x-request-id"]


# What a worker says of itself stays inside


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_workers_headers_and_address_do_not_leak(
    script: str, gateway: GatewayProcess, worker: ScriptedWorker
) -> None:
    gateway.wait_up()
    with RawClient(gateway.port) as client:
        client.send(post(CHAT, body(script=script, stream="stream" in script), AUTH))
        answer = client.answer()
    assert answer.complete
    assert set(answer.headers) <= OURS
    assert "\r" not in answer.headers["content-type"]
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-tollgate-worker"] == "w0"
    whole = json.dumps(answer.headers).encode() + answer.body
    for telling in (worker.url.removeprefix("http://").encode(), b"10.0.0.5", b"127.0.0.1", b"x-evil"):
        assert telling not in whole


# Pipelining


def test_a_client_that_leaves_with_requests_waiting_stops_its_engine(tmp_path: Path) -> None:
    with LiveWorker() as engine, GatewayProcess(tmp_path, configuration({"w0": engine.url})) as gateway:
        gateway.wait_up()
        engine.wait_idle()
        before = engine.aborted
        with RawClient(gateway.port) as client:
            client.send(post(CHAT, body(stream=True, standin={"first_token_delay": 60}), AUTH))
            engine.wait_for(active=1)
            client.send(post(CHAT, body(), AUTH) * 20)
        engine.wait_for(aborted=before + 1)
        (row,) = eventually(gateway.all_rows, "the attempt is in the ledger")
        assert row["outcome"] == "aborted"


# HTTP/1.0, asking first, IPv6


def test_http_1_0_gets_one_answer_and_an_end(gateway: GatewayProcess) -> None:
    for stream in (False, True):
        with RawClient(gateway.port) as client:
            script = "stream" if stream else "ok"
            sent = post(CHAT, body(stream=stream, script=script), AUTH, "connection: keep-alive")
            client.send(sent.replace(b"HTTP/1.1", b"HTTP/1.0"))
            whole = client.read_to_end()
        assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in whole
        assert b"transfer-encoding" not in whole
        assert whole.endswith(b"data: [DONE]\n\n" if stream else b"}")


def test_a_client_that_asks_first_is_told_to_go_on(gateway: GatewayProcess) -> None:
    said = body()
    with RawClient(gateway.port) as client:
        client.send(head(CHAT, AUTH, f"content-length: {len(said)}", "expect: 100-continue"))
        assert client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(said)
        assert client.answer().status == 200


def test_both_sides_speak_ipv6(tmp_path: Path) -> None:
    with ScriptedWorker(host="::1") as worker:
        assert worker.url.startswith("http://[::1]:")
        written = configuration({"w0": worker.url}, server={"host": "::1", "port": 4000, "drain_seconds": 5})
        with GatewayProcess(tmp_path, written) as gateway:
            gateway.url = f"http://[::1]:{gateway.port}"
            gateway.wait_up()
            with gateway.client() as client:
                assert client.post(CHAT, content=body()).status_code == 200
    ((asked, _),) = worker.asked
    assert f"host: {worker.url.removeprefix('http://')}\r\n".encode() in asked


# Descriptors


def test_clients_above_the_descriptor_limit_are_told_so_and_nothing_else_suffers(
    tmp_path: Path, worker: ScriptedWorker
) -> None:
    soft, hard = 400, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wrapper = tmp_path / "limited.py"
    wrapper.write_text(
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft // 2}, {soft}))\n"
        "from gateway.cli import main\n"
        "sys.exit(main())\n"
    )
    most = clients_within(soft)
    assert 100 < most < soft // 2 < hard
    with GatewayProcess(tmp_path, configuration({"w0": worker.url}), program=[str(wrapper)]) as gateway:
        gateway.wait_up()
        clients = [socket.create_connection(("127.0.0.1", gateway.port), 30) for _ in range(most + 50)]
        try:
            eventually(lambda: turned_away(clients[most:]) >= 40 or None, "those too many are told so")
            first = clients[0]
            first.sendall(post(CHAT, body(), AUTH))
            assert first.recv(65536).startswith(b"HTTP/1.1 200 OK")
            said = next(data for each in clients[most:] if (data := each.recv(65536)))
            assert said.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nretry-after: 1\r\n" in said
            assert b'"code":"overloaded"' in said
        finally:
            for each in clients:
                each.close()
        gateway.wait_log(lambda line: line["event"] == "client connections refused")

        def room() -> bool | None:
            try:
                return gateway.metric("tollgate_client_connections_refused_total") >= 40 or None
            except httpx2.HTTPError:
                return None

        eventually(room, "there is room again")
        assert gateway.admin("workers")["workers"][0]["up"]
    assert "Too many open files" not in gateway.errors


def turned_away(clients: list[socket.socket]) -> int:
    """How many have been told something unasked."""
    return len(select.select(clients, [], [], 0)[0])
