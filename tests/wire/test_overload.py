"""Three times what the workers can do: they stay busy with what they can, the rest is told when to come back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from loadtests.client import Target, chat_request
from loadtests.drive import Run, open_loop
from loadtests.schedule import poisson, uniform
from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker
from tests.wire.answers import error_of
from tests.wire.raw import RawClient, post

SEATS = 8
SERVICE = 0.1  # seconds
CAPACITY = SEATS / SERVICE
SECONDS = 4.0
BODY = orjson.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]})


@contextmanager
def serving(directory: Path, entry: dict[str, Any], **engine: Any) -> Iterator[tuple[GatewayProcess, LiveWorker]]:
    with LiveWorker(max_running=SEATS, **engine) as worker:
        written = configuration(
            [worker_entry("w0", worker.url, **entry)],
            queue={"length": 16, "wait": "1s"},
            probe={"every": "500ms", "wait": "20s"},
        )
        with GatewayProcess(directory, written) as gateway:
            gateway.wait_up()
            worker.behave(first_token_delay=SERVICE)
            yield gateway, worker


def load(gateway: GatewayProcess, arrivals: list[float]) -> Run:
    target = Target(gateway.url, (("authorization", f"Bearer {KEY}"),))
    request = chat_request(target, "tiny", stream=False, tokens=4)
    return asyncio.run(open_loop(target, request, arrivals, connections=400))


@pytest.mark.parametrize(
    ("entry", "engine"),
    [({"max_inflight": SEATS + 2}, {}), ({}, {"max_queued": SEATS + 8})],
    ids=["a limit that was given", "a limit the engine lets us learn"],
)
def test_goodput_stays_at_capacity(entry: dict[str, Any], engine: dict[str, Any], tmp_path: Path) -> None:
    with serving(tmp_path, entry, **engine) as (gateway, worker):
        load(gateway, uniform(CAPACITY / 2, 0.5))
        done = worker.finished
        run = load(gateway, poisson(3 * CAPACITY, SECONDS, seed=1))
        assert run.requests >= 0.9 * CAPACITY * SECONDS
        assert run.errors["status 429"] > 0.9 * run.errors.total()  # the rest are the engine's own refusals
        assert set(run.errors) <= {"status 429", "status 503"}
        asked_in_vain = worker.finished - done - run.requests
        assert asked_in_vain < run.errors.total() / 2  # most are turned away without asking the engine
        assert run.latency.p99 < 3.0  # no queue that grows with the overload
        assert gateway.metric("tollgate_queue_waiting") == 0
        assert gateway.metric("tollgate_worker_inflight") == 0
        assert load(gateway, uniform(CAPACITY / 2, 0.5)).errors.total() == 0  # and it is over when it is over


@contextmanager
def occupied(
    directory: Path, waiting: int, tenants: dict[str, Any] | None = None, **queue: Any
) -> Iterator[tuple[GatewayProcess, LiveWorker, list[RawClient]]]:
    """A worker that is full with one request of `acme`, and clients of its that wait before it."""
    with ExitStack() as stack:
        worker = stack.enter_context(LiveWorker())
        tenants = {"acme": tenant(KEY), **(tenants or {})}
        written = configuration([worker_entry("w0", worker.url, max_inflight=1)], queue=queue, tenants=tenants)
        gateway = stack.enter_context(GatewayProcess(directory, written))
        gateway.wait_up()
        worker.behave(header_delay=60.0)
        clients: list[RawClient] = []
        for number in range(waiting + 1):
            clients.append(stack.enter_context(waiting_client(gateway)))
            eventually(lambda: in_all(gateway) == len(clients), f"request {number} has its place")
        yield gateway, worker, clients


def waiting_client(gateway: GatewayProcess, key: str = KEY, body: bytes = BODY) -> RawClient:
    client = RawClient(gateway.port)
    client.send(post("/v1/chat/completions", body, f"authorization: Bearer {key}"))
    return client


def in_all(gateway: GatewayProcess) -> float:
    return gateway.metric("tollgate_queue_waiting") + gateway.metric("tollgate_worker_inflight")


def ask(gateway: GatewayProcess, key: str = KEY) -> httpx2.Response:
    with gateway.client(key) as client:
        return client.post("/v1/chat/completions", content=BODY)


def test_who_finds_no_room_is_told_when_to_come_back(tmp_path: Path) -> None:
    with occupied(tmp_path, 3, length=3, wait="60s") as (gateway, _, _):
        answer = ask(gateway)
        assert (answer.status_code, error_of(answer)["code"]) == (429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        assert "x-should-retry" not in answer.headers
        assert answer.headers["x-tollgate-attempts"] == "0"
        assert gateway.metric("tollgate_queue_refused_total", reason="full", priority="standard") == 1
        assert gateway.metric("tollgate_queue_refused_total") == 1
        assert gateway.metric("tollgate_limit_refusals_total") == 0
        line = gateway.request_line(answer.headers["x-request-id"])
        assert (line["queue_position"], line["queued_ms"]) == (4, 0)
        assert gateway.metric("tollgate_queue_position_sum") == 4


def test_nobody_waits_longer_than_was_said(tmp_path: Path) -> None:
    with occupied(tmp_path, 1, length=8, wait="300ms") as (gateway, _, clients):
        answer = clients[1].answer()
        assert (answer.status, orjson.loads(answer.body)["error"]["code"]) == (429, "queue_wait_too_long")
        line = gateway.request_line(answer.headers["x-request-id"])
        assert line["queued_ms"] >= 290
        assert (line["queue_position"], line["queue_expected_ms"], line["priority"]) == (1, None, "standard")
        assert line["overhead_ms"] is None
        assert gateway.metric("tollgate_queue_waiting") == 0


def test_a_place_that_comes_free_goes_to_who_has_waited_longest(tmp_path: Path) -> None:
    with occupied(tmp_path, 2, length=8, wait="60s") as (gateway, worker, clients):
        worker.behave()
        clients[0].leave()
        first, second = clients[1].answer(), clients[2].answer()
        assert (first.status, second.status) == (200, 200)
        arrivals = worker.arrivals()
        order = [arrivals.index(answer.headers["x-request-id"]) for answer in (first, second)]
        assert order == sorted(order)
        lines = [gateway.request_line(answer.headers["x-request-id"]) for answer in (first, second)]
        assert min(line["queued_ms"] for line in lines) > 0
        assert [line["queue_position"] for line in lines] == [1, 2]
        assert in_all(gateway) == 0


def test_who_leaves_the_queue_frees_its_place(tmp_path: Path) -> None:
    with occupied(tmp_path, 2, length=2, wait="60s") as (gateway, worker, clients):
        clients[1].leave()
        eventually(lambda: gateway.metric("tollgate_queue_waiting") == 1, "one has left")
        worker.behave()
        clients[0].leave()
        assert clients[2].answer().status == 200
        assert gateway.metric("tollgate_aborts_total") == 2
        assert in_all(gateway) == 0


def test_a_request_that_must_be_answered_sooner_does_not_wait_longer(tmp_path: Path) -> None:
    with occupied(tmp_path, 0, length=8, wait="60s") as (gateway, _, _), gateway.client() as client:
        body = {**orjson.loads(BODY), "stream": True, "routing": {"max_ttft_ms": 200}}
        answer = client.post("/v1/chat/completions", json=body)
        assert (answer.status_code, error_of(answer)["code"]) == (429, "queue_wait_too_long")
