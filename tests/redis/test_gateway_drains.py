"""A drain by the API of one replica holds in the other, on a real Redis: also while that is away or has lost it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.eventually import promised
from tests.gateway_process import ADMIN_KEY, GatewayProcess, configuration
from tests.live_worker import LiveWorker

if TYPE_CHECKING:
    from tests.redis.conftest import RedisServer

pytestmark = pytest.mark.redis

SPREAD_SECONDS = 2.0
STORED = "tollgate:drains:1"


@pytest.fixture
def replicas(tmp_path: Path, redis_server: RedisServer) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    with ExitStack() as stack:
        workers = {f"w{at}": stack.enter_context(LiveWorker()).url for at in range(2)}
        one, other = (
            stack.enter_context(GatewayProcess(tmp_path / name, configuration(workers, state=redis_server.url)))
            for name in ("one", "other")
        )
        for gateway in (one, other):
            gateway.wait_up()
        yield one, other


def order(gateway: GatewayProcess, name: str, what: str) -> Any:
    with gateway.client(ADMIN_KEY) as client:
        answer = client.post(f"/admin/v1/workers/{name}/{what}")
        assert answer.status_code == 200, answer.text
        return answer.json()


def drained(gateway: GatewayProcess) -> list[str]:
    return [worker["name"] for worker in gateway.admin("workers")["workers"] if worker["draining"]]


def becomes(gateway: GatewayProcess, *names: str, within: float = SPREAD_SECONDS) -> None:
    promised(lambda: drained(gateway) == list(names) or None, f"drained: {names}", within)


def test_two_replicas_drain_as_one(replicas: tuple[GatewayProcess, GatewayProcess]) -> None:
    one, other = replicas
    assert order(one, "w0", "drain")["shared"] is True
    becomes(other, "w0")
    order(other, "w1", "drain")
    becomes(one, "w0", "w1")
    order(other, "w0", "undrain")
    becomes(one, "w1")


def test_a_redis_that_is_away_or_forgets_undoes_nothing(
    replicas: tuple[GatewayProcess, GatewayProcess], redis_server: RedisServer
) -> None:
    one, other = replicas
    order(one, "w0", "drain")
    becomes(other, "w0")
    redis_server.kill()
    assert order(one, "w1", "drain")["shared"] is False
    assert (drained(one), drained(other)) == (["w0", "w1"], ["w0"])
    assert one.metric("tollgate_drains_away") == 1
    redis_server.start()  # with nothing in it
    becomes(other, "w0", "w1", within=10.0)
    assert drained(one) == ["w0", "w1"]
    with redis_server.client() as client:
        fields = client.hgetall(STORED)
    assert fields == {b".made": b"1", b"w0": b"1", b"w1": b"1"}
