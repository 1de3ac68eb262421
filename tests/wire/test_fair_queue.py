"""Tenants and classes before one full worker: whose turn it is, who has to go, and what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import orjson
import pytest

from loadtests.client import Target, chat_request
from loadtests.drive import Run, closed_loop
from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker
from tests.wire.test_overload import BODY, in_all, occupied, waiting_client

OTHER_KEY = "sk-test-globex"
BATCH = orjson.dumps({**orjson.loads(BODY), "routing": {"priority": "batch"}})


def waiting(gateway: GatewayProcess, count: int, **labels: str) -> None:
    eventually(lambda: gateway.metric("tollgate_queue_waiting", **labels) == count, f"{count} wait {labels}")


def test_an_interactive_request_overtakes_a_full_batch_queue(tmp_path: Path) -> None:
    tenants = {"acme": tenant(KEY, priority="batch"), "chat": tenant(OTHER_KEY, priority="interactive")}
    with occupied(tmp_path, 3, tenants, length=3, wait="60s") as (gateway, worker, clients):
        with waiting_client(gateway, OTHER_KEY) as chat:
            last = clients[3].answer()
            assert (last.status, orjson.loads(last.body)["error"]["code"]) == (429, "queue_full")
            assert gateway.request_line(last.headers["x-request-id"])["queue_position"] == 3
            waiting(gateway, 1, priority="interactive")
            waiting(gateway, 2, priority="batch")
            assert gateway.metric("tollgate_queue_refused_total", reason="displaced", priority="batch") == 1
            worker.behave()
            clients[0].leave()
            line = gateway.request_line(chat.answer().headers["x-request-id"])
            assert (line["queue_position"], line["priority"]) == (1, "interactive")
        others = [gateway.request_line(client.answer().headers["x-request-id"]) for client in clients[1:3]]
        assert all(other["queued_ms"] > line["queued_ms"] for other in others)
        for priority, count in (("interactive", 1), ("batch", 3)):
            assert gateway.metric("tollgate_queue_seconds_count", priority=priority) == count


def test_a_hot_tenant_makes_room_for_another_and_goes_after_it(tmp_path: Path) -> None:
    tenants = {"globex": tenant(OTHER_KEY)}
    with occupied(tmp_path, 4, tenants, length=4, wait="60s") as (gateway, worker, clients):
        with waiting_client(gateway, OTHER_KEY) as quiet:
            assert clients[4].answer().status == 429
            waiting(gateway, 4)
            worker.behave()
            clients[0].leave()
            assert quiet.answer().status == 200
        assert [client.answer().status for client in clients[1:4]] == [200] * 3
        assert in_all(gateway) == 0


def test_a_request_may_go_after_others_and_not_before_them(tmp_path: Path) -> None:
    with occupied(tmp_path, 0, length=8, wait="60s") as (gateway, worker, clients):
        eager = orjson.dumps({**orjson.loads(BODY), "routing": {"priority": "interactive"}})
        with waiting_client(gateway, body=BATCH) as batch, waiting_client(gateway, body=eager) as standard:
            waiting(gateway, 1, priority="batch")
            waiting(gateway, 1, priority="standard")
            worker.behave()
            clients[0].leave()
            lines = [gateway.request_line(one.answer().headers["x-request-id"]) for one in (standard, batch)]
            assert [line["priority"] for line in lines] == ["standard", "batch"]
            assert worker.body(lines[0]["request_id"])["messages"]
            assert "routing" not in worker.body(lines[0]["request_id"])


def test_a_key_has_a_class_of_its_own(tmp_path: Path) -> None:
    keys = [*tenant(KEY)["keys"], {**tenant(OTHER_KEY)["keys"][0], "id": "jobs", "priority": "batch"}]
    with occupied(tmp_path, 0, {"acme": {"keys": keys}}, length=8, wait="60s") as (gateway, _, _):
        with waiting_client(gateway, OTHER_KEY):
            waiting(gateway, 1, priority="batch")
        waiting(gateway, 0)  # it has left


def test_a_wrong_class_is_refused(tmp_path: Path) -> None:
    with LiveWorker() as worker, GatewayProcess(tmp_path, configuration({"w0": worker.url})) as gateway:
        gateway.wait_up()
        with gateway.client() as client:
            answer = client.post("/v1/chat/completions", json={**orjson.loads(BODY), "routing": {"priority": "high"}})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "routing.priority"


SEATS = 4
SERVICE = 0.05  # seconds


@pytest.mark.parametrize("weight", [1, 2])
def test_ten_times_the_clients_are_no_larger_share(weight: int, tmp_path: Path) -> None:
    with LiveWorker(max_running=SEATS) as worker:
        written = configuration(
            [worker_entry("w0", worker.url, max_inflight=SEATS)],
            queue={"length": 64, "wait": "30s"},
            probe={"every": "500ms", "wait": "20s"},
            tenants={"acme": tenant(KEY), "globex": tenant(OTHER_KEY, weight=weight)},
        )
        with GatewayProcess(tmp_path, written) as gateway:
            gateway.wait_up()
            worker.behave(first_token_delay=SERVICE)
            hot, quiet = asyncio.run(contend(gateway.url, {KEY: 60, OTHER_KEY: 6}))
            assert hot.errors.total() == quiet.errors.total() == 0
            assert quiet.requests / hot.requests == pytest.approx(weight, rel=0.15)


async def contend(url: str, clients: dict[str, int]) -> list[Run]:
    """What each key gets while that many clients of each ask again and again."""
    runs: list[Awaitable[Run]] = []
    for key, count in clients.items():
        target = Target(url, (("authorization", f"Bearer {key}"),))
        request = chat_request(target, "tiny", stream=False, tokens=8)
        runs.append(closed_loop(target, request, connections=count, seconds=4.0, warmup=1.0))
    return await asyncio.gather(*runs)
