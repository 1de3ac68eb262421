"""The response cache of real gateways on a real Redis: shared by replicas, and nothing but itself when it is away."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.eventually import eventually
from tests.gateway_process import GatewayProcess, configuration
from tests.live_worker import LiveWorker

if TYPE_CHECKING:
    from tests.redis.conftest import RedisServer

pytestmark = pytest.mark.redis

PATH = "/v1/chat/completions"
numbers = itertools.count()


@pytest.fixture
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


def fresh(**fields: Any) -> dict[str, Any]:
    prompt = f"question {next(numbers)}"
    return {"model": "tiny", "messages": [{"role": "user", "content": prompt}], "temperature": 0, **fields}


def cache_of(http: httpx2.Client, body: dict[str, Any]) -> str:
    answer = http.post(PATH, json=body)
    assert answer.status_code == 200
    return answer.headers["x-tollgate-cache"]


def start(directory: Path, worker: LiveWorker, redis: RedisServer) -> GatewayProcess:
    return GatewayProcess(directory, configuration({"w0": worker.url}, state=redis.url))


def test_replicas_share_what_they_keep(tmp_path: Path, worker: LiveWorker, redis_server: RedisServer) -> None:
    with start(tmp_path / "a", worker, redis_server) as a, start(tmp_path / "b", worker, redis_server) as b:
        a.wait_ready()
        b.wait_ready()
        with a.client() as here, b.client() as there:
            for fields in ({}, {"stream": True}):
                body = fresh(**fields)
                first = here.post(PATH, json=body)
                assert first.headers["x-tollgate-cache"] == "miss"
                # The other replica finds it once the background write has arrived; till then it misses as well.
                eventually(lambda body=body: cache_of(there, body) == "hit" or None, "shared")
                eventually(lambda body=body: cache_of(here, body) == "hit" or None, "and by who made it")


def test_what_was_kept_outlives_the_gateway(tmp_path: Path, worker: LiveWorker, redis_server: RedisServer) -> None:
    body = fresh()
    with start(tmp_path, worker, redis_server) as gateway, gateway.client() as http:
        gateway.wait_ready()
        assert cache_of(http, body) == "miss"
    with start(tmp_path, worker, redis_server) as gateway, gateway.client() as http:
        gateway.wait_ready()
        worker.behave(fault="refuse", status=400)  # what it is asked it will not answer again
        eventually(lambda: http.post(PATH, json=body).headers["x-tollgate-cache"] == "hit" or None, "it is there")


def test_a_redis_that_dies_costs_the_cache_and_nothing_else(
    tmp_path: Path, worker: LiveWorker, redis_server: RedisServer
) -> None:
    with start(tmp_path, worker, redis_server) as gateway, gateway.client() as http:
        gateway.wait_ready()
        body = fresh()
        assert cache_of(http, body) == "miss"
        eventually(lambda: cache_of(http, body) == "hit" or None, "kept")
        redis_server.kill()
        for _ in range(20):
            assert cache_of(http, body) == "miss"
            assert cache_of(http, fresh(stream=True)) == "miss"
            assert cache_of(http, fresh(temperature=1)) == "bypass"
        gateway.wait_log(lambda line: line["event"] == "response cache away: serving without it")
        redis_server.start()
        gateway.wait_log(lambda line: line["event"] == "response cache back")
        eventually(lambda: cache_of(http, body) == "hit" or None, "kept again")


def test_a_redis_that_hangs_holds_nobody_up(tmp_path: Path, worker: LiveWorker, redis_server: RedisServer) -> None:
    with start(tmp_path, worker, redis_server) as gateway, gateway.client() as http:
        gateway.wait_ready()
        assert cache_of(http, fresh()) == "miss"
        redis_server.pause()
        try:
            for _ in range(20):
                assert cache_of(http, fresh()) == "miss"
        finally:
            redis_server.resume()


def test_a_redis_that_is_not_there_at_the_start(tmp_path: Path, worker: LiveWorker, redis_server: RedisServer) -> None:
    redis_server.kill()
    with start(tmp_path, worker, redis_server) as gateway, gateway.client() as http:
        gateway.wait_ready()
        body = fresh()
        assert cache_of(http, body) == "miss"
        assert cache_of(http, body) == "miss"
        redis_server.start()
        eventually(lambda: cache_of(http, body) == "hit" or None, "kept, once Redis is there")
