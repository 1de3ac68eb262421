"""Adapters added by the API of one replica are in the other, on a real Redis: also while that is away or has lost
them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.adapter_files import write_adapter
from tests.eventually import eventually, promised
from tests.gateway_process import ADMIN_KEY, GatewayProcess, configuration, worker_entry
from tests.live_worker import LiveWorker

if TYPE_CHECKING:
    from tests.redis.conftest import RedisServer

pytestmark = pytest.mark.redis

SPREAD_SECONDS = 2.0
STORED = "tollgate:adapters:1"


@pytest.fixture
def replicas(tmp_path: Path, redis_server: RedisServer) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    for name in ("a", "b"):
        write_adapter(tmp_path / "share" / name)
    with ExitStack() as stack:
        worker = stack.enter_context(LiveWorker())
        written = configuration(
            [worker_entry("w0", worker.url, max_loras=2)],
            state=redis_server.url,
            adapters={"directories": [str(tmp_path / "share")]},
        )
        one, other = (stack.enter_context(GatewayProcess(tmp_path / name, written)) for name in ("one", "other"))
        for gateway in (one, other):
            gateway.wait_up()
        yield one, other


def add(gateway: GatewayProcess, name: str, path: Path, **more: Any) -> int:
    with gateway.client(ADMIN_KEY) as client:
        body = {"model": "tiny", "name": name, "path": str(path / "share" / name), **more}
        return client.post("/admin/v1/adapters", json=body).status_code


def remove(gateway: GatewayProcess, name: str) -> int:
    with gateway.client(ADMIN_KEY) as client:
        return client.delete(f"/admin/v1/adapters/tiny/{name}").status_code


def names(gateway: GatewayProcess) -> list[str]:
    return [row["name"] for row in gateway.admin("adapters")["adapters"]]


def becomes(gateway: GatewayProcess, *wanted: str, within: float = SPREAD_SECONDS) -> None:
    promised(lambda: names(gateway) == list(wanted) or None, f"adapters: {wanted}", within)


def ask(gateway: GatewayProcess, name: str) -> int:
    with gateway.client() as client:
        body = {"model": f"tiny:{name}", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        return client.post("/v1/chat/completions", json=body).status_code


def test_two_replicas_have_the_same(replicas: tuple[GatewayProcess, GatewayProcess], tmp_path: Path) -> None:
    one, other = replicas
    assert add(one, "a", tmp_path) == 201
    becomes(other, "a")
    assert ask(other, "a") == 200
    assert add(other, "a", tmp_path) == 200
    assert add(other, "a", tmp_path, version="v2") == 409
    assert add(other, "b", tmp_path) == 201
    becomes(one, "a", "b")
    assert remove(other, "a") == 200
    becomes(one, "b")
    assert (ask(one, "a"), ask(one, "b")) == (404, 200)


def test_a_redis_that_is_away_or_forgets_undoes_nothing(
    replicas: tuple[GatewayProcess, GatewayProcess], tmp_path: Path, redis_server: RedisServer
) -> None:
    one, other = replicas
    assert add(one, "a", tmp_path) == 201
    becomes(other, "a")
    redis_server.kill()
    assert add(one, "b", tmp_path) == 503
    assert remove(one, "a") == 503
    assert names(one) == names(other) == ["a"]
    assert one.metric("tollgate_adapters_away") == 1
    assert ask(other, "a") == 200
    redis_server.start()  # with nothing in it
    with redis_server.client() as client:
        eventually(lambda: b"tiny:a" in client.hkeys(STORED) or None, "it is put back")
    eventually(lambda: add(one, "b", tmp_path) in (200, 201) or None, "it can be added")
    becomes(other, "a", "b")
    assert one.metric("tollgate_adapters_away") == 0
