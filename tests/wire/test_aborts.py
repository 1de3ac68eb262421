"""A client leaves: every endpoint, at every moment, on a fresh and on a kept connection to the worker.

Each time the worker's side is closed within a second, one row says `aborted` with estimated usage, the metrics count
it, and the place in the tenant's limits is free again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from gateway.protocol.endpoints import ENDPOINTS
from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker, ScriptedWorker
from tests.wire.raw import RawClient, head, post

MESSAGES = [{"role": "user", "content": "hi"}]
GENERATE: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 10_000},
}
POOL: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": "hi", "model": "vec"},
    "/v1/rerank": {"query": "hi", "documents": ["a", "b"]},
    "/v1/score": {"text_1": "hi", "text_2": "ho"},
}
AUDIO = ("/v1/audio/transcriptions", "/v1/audio/translations")
PLAIN = {
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [104]},
}  # no inference: a stand-in cannot be slow at it

NUMBER = itertools.count()

WAITING = {"before the head": {"header_delay": 60}, "in the middle of a document": {"fault": "stuck"}}
STREAMING = {
    "before the head": {"header_delay": 60},
    "before the first token": {"first_token_delay": 60},
    "in the middle of a stream": {"tokens": 10_000, "pace": 0.02},
    "in a stream that stands still": {"fault": "stuck", "after": 4},
}


class Case(NamedTuple):
    path: str
    stream: bool
    moment: str
    behaviour: dict[str, Any]

    @property
    def begins(self) -> bool:
        """Whether the client has seen something of the answer."""
        return self.stream and self.moment.startswith("in ")


CASES = [
    *(Case(path, False, *when) for path in (*GENERATE, *POOL, *AUDIO) for when in WAITING.items()),
    *(Case(path, True, *when) for path in GENERATE for when in STREAMING.items()),
]


class Site(NamedTuple):
    gateway: GatewayProcess
    worker: LiveWorker
    mute: ScriptedWorker


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with LiveWorker(["tiny@v1", "vec@v1"]) as worker, ScriptedWorker("plain@v1", silence=b"") as mute:
        written = configuration(
            [
                worker_entry("w0", worker.url),
                worker_entry("w1", mute.url, serves="plain@v1"),
                worker_entry("w2", worker.url, serves="vec@v1"),
            ],
            models={
                "tiny": {"context": 32768, "versions": {"v1": {}}},
                "plain": {"context": 32768, "versions": {"v1": {}}},
                "vec": {"context": 32768, "task": "embed", "versions": {"v1": {}}},
            },
            tenants={"acme": tenant(KEY, limits={"concurrency": 1})},
        )
        with GatewayProcess(tmp_path_factory.mktemp("aborts"), written) as gateway:
            gateway.wait_up()
            yield Site(gateway, worker, mute)


def request(path: str, **fields: Any) -> bytes:
    authorization = f"authorization: Bearer {KEY}"
    if path in AUDIO:
        parts = [b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\ntiny\r\n']
        parts.append(b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--b--\r\n')
        form = b"".join(parts)
        lines = head(path, f"content-length: {len(form)}", authorization)
        return lines.replace(b"application/json", b"multipart/form-data; boundary=b") + form
    said = json.dumps({"model": "tiny", **{**GENERATE, **POOL, **PLAIN}[path], **fields})
    return post(path, said.replace('"hi"', f'"hi {next(NUMBER)}"').encode(), authorization)  # or a cache may know it


def ask(gateway: GatewayProcess, *args: Any, **fields: Any) -> None:
    """A whole exchange, which needs the one place the tenant has."""
    with RawClient(gateway.port) as client:
        client.send(request(*args, **fields))
        answer = client.answer()
        assert answer.status == 200, answer.body


class Books:
    """What the gateway has counted so far, to be compared with later."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        eventually(lambda: gateway.metric("tollgate_ledger_queued") == 0 or None, "all that came before is written")
        self._known = {row["attempt_id"] for row in gateway.all_rows()}
        self._aborts = {phase: self._count(phase) for phase in ("waiting", "streaming")}

    def _count(self, phase: str) -> float:
        return self._gateway.metric("tollgate_aborts_total", phase=phase)

    def check(self, phase: str, path: str, worker: str) -> dict[str, Any]:
        """One abort of that phase has been entered since, in every book; its row."""
        gateway = self._gateway

        def new() -> list[dict[str, Any]]:
            return [row for row in gateway.all_rows() if row["attempt_id"] not in self._known]

        (row,) = eventually(new, "the attempt is in the ledger")
        name = ENDPOINTS[path].name
        assert (row["outcome"], row["estimated"], row["endpoint"], row["worker"]) == ("aborted", 1, name, worker)
        line = gateway.request_line(row["request_id"])
        assert (line["outcome"], line["estimated"]) == ("aborted", True)
        for each, before in self._aborts.items():
            assert self._count(each) == before + (each == phase)
        closed = gateway.metric("tollgate_abort_seconds_count")
        assert closed == sum(self._count(each) for each in self._aborts)
        assert gateway.metric("tollgate_abort_seconds_bucket", le="1.0") == closed  # each within a second
        assert gateway.metric("tollgate_worker_inflight") == 0 == gateway.metric("tollgate_worker_pending_tokens")
        return row


@pytest.mark.parametrize("connection", ["fresh", "kept"])
@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.path}-{'stream' if case.stream else 'document'}-{case.moment}"
)
def test_a_client_leaves(case: Case, connection: str, site: Site) -> None:
    gateway, worker, _ = site
    if connection == "kept":
        ask(gateway, case.path)
    else:
        worker.hang_up()
        eventually(lambda: gateway.metric("tollgate_worker_connections") == 0 or None, "none is kept")
    held = gateway.metric("tollgate_worker_connections")
    books, aborted = Books(gateway), worker.aborted
    worker.behave(**case.behaviour)
    with RawClient(gateway.port) as client:
        client.send(request(case.path, stream=True) if case.stream else request(case.path))
        worker.wait_for(active=1)
        if connection == "kept":
            assert gateway.metric("tollgate_worker_connections") == held
        if case.begins:
            client.read_until(b"data: ")
    worker.wait_for(aborted=aborted + 1)
    worker.wait_idle()
    worker.behave()
    row = books.check(
        "streaming" if case.begins else "waiting", case.path, "w2" if case.path == "/v1/embeddings" else "w0"
    )
    assert (row["status"], row["ttft_seconds"] is None) == (200 if case.begins else 0, not case.begins)
    assert row["prompt_tokens"] > 0 or case.path in AUDIO
    ask(gateway, "/v1/chat/completions")


@pytest.mark.parametrize("path", PLAIN)
def test_a_client_leaves_an_endpoint_without_inference(path: str, site: Site) -> None:
    gateway, _, mute = site
    books = Books(gateway)
    with RawClient(gateway.port) as client:
        client.send(request(path, model="plain", script="silence"))
        eventually(lambda: mute.active == 1 or None, "the request is with the worker")
    eventually(lambda: mute.active == 0 or None, "the worker is let go")
    books.check("waiting", path, "w1")
    ask(gateway, "/v1/chat/completions")


def test_every_endpoint_is_here() -> None:
    assert {*GENERATE, *POOL, *AUDIO, *PLAIN} == set(ENDPOINTS)
    assert {path for path, endpoint in ENDPOINTS.items() if endpoint.streams} == {*GENERATE, *AUDIO}


def test_a_client_leaves_with_another_request_waiting_behind(site: Site) -> None:
    """A pipelined request that has not had its turn never reaches a worker, and is nobody's row."""
    gateway, worker, _ = site
    books, aborted, finished = Books(gateway), worker.aborted, worker.finished
    requests = gateway.metric("tollgate_requests_total")
    worker.behave(header_delay=60)
    with RawClient(gateway.port) as client:
        client.send(request("/v1/chat/completions") + request("/v1/completions"))
        worker.wait_for(active=1)
    worker.wait_for(aborted=aborted + 1)
    worker.wait_idle()
    worker.behave()
    books.check("waiting", "/v1/chat/completions", "w0")
    assert gateway.metric("tollgate_requests_total") == requests + 1
    assert (worker.aborted, worker.finished) == (aborted + 1, finished)


def test_a_client_leaves_with_part_of_another_request_behind(site: Site) -> None:
    gateway, worker, _ = site
    books, aborted = Books(gateway), worker.aborted
    worker.behave(tokens=10_000, pace=0.02)
    with RawClient(gateway.port) as client:
        client.send(request("/v1/chat/completions", stream=True) + request("/v1/completions")[:-4])
        client.read_until(b" same")
    worker.wait_for(aborted=aborted + 1)
    worker.wait_idle()
    worker.behave()
    books.check("streaming", "/v1/chat/completions", "w0")
    ask(gateway, "/v1/chat/completions")
