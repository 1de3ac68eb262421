"""Keys of real gateways on a real Redis: replicas agree within 2 s, and an outage costs nobody a key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.eventually import eventually, promised
from tests.gateway_process import ADMIN_KEY, KEY, GatewayProcess, configuration
from tests.live_worker import LiveWorker

if TYPE_CHECKING:
    from tests.redis.conftest import RedisServer

pytestmark = pytest.mark.redis

PATH = "/v1/chat/completions"
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
EFFECTIVE_SECONDS = 2.0  # the promise
STORED = "{tollgate:keys:1}"


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


def start(directory: Path, worker: LiveWorker, state: str) -> GatewayProcess:
    return GatewayProcess(directory, configuration({"w0": worker.url}, state=state))


def ask(gateway: GatewayProcess, key: str) -> httpx2.Response:
    with gateway.client(key) as http:
        return http.post(PATH, json=BODY)


def command(gateway: GatewayProcess, method: str, path: str = "", body: Any = None) -> httpx2.Response:
    with gateway.client(ADMIN_KEY) as http:
        return http.request(method, f"/admin/v1/keys{path}", json=body)


def make(gateway: GatewayProcess, **wanted: Any) -> str:
    answer = command(gateway, "POST", body={"tenant": "acme", **wanted})
    assert answer.status_code == 201, answer.text
    return answer.json()["key"]


def becomes(gateway: GatewayProcess, key: str, status: int, within: float = EFFECTIVE_SECONDS) -> None:
    promised(lambda: ask(gateway, key).status_code == status or None, f"{status} at {gateway.url}", within)


def row(gateway: GatewayProcess, key_id: str) -> dict[str, Any]:
    (found,) = [one for one in command(gateway, "GET").json()["keys"] if one["id"] == key_id]
    return found


@pytest.mark.parametrize("kind", ["redis", "cluster"])
def test_replicas_agree_on_what_is_made_rotated_and_revoked(
    tmp_path: Path, worker: LiveWorker, request: pytest.FixtureRequest, kind: str
) -> None:
    if kind == "redis":
        nodes: list[RedisServer] = [request.getfixturevalue("redis_server")]
        state = nodes[0].url
    else:
        nodes = request.getfixturevalue("redis_cluster")
        state = f"redis+cluster://{nodes[0].address}"
    with start(tmp_path / "a", worker, state) as a, start(tmp_path / "b", worker, state) as b:
        a.wait_ready()
        b.wait_ready()
        first = make(a, id="prod")
        assert ask(a, first).status_code == 200  # where it was made it counts at once
        becomes(b, first, 200)

        second = command(b, "POST", "/acme/prod/rotate").json()["key"]
        becomes(a, second, 200)
        assert [ask(gateway, first).status_code for gateway in (a, b)] == [200, 200]  # in its grace

        third = command(a, "POST", "/acme/prod/rotate", {"grace": "0s"}).json()["key"]
        becomes(b, third, 200)
        for earlier in (first, second):
            becomes(a, earlier, 401)
            becomes(b, earlier, 401)

        eventually(lambda: row(a, "prod")["last_used"] == row(b, "prod")["last_used"] or None, "both know of its use")
        assert command(b, "DELETE", "/acme/prod").json()["state"] == "revoked"
        becomes(a, third, 401)
        assert ask(b, third).status_code == 401
        assert [ask(gateway, KEY).status_code for gateway in (a, b)] == [200, 200]
        assert row(a, "prod")["revoked"] == row(b, "prod")["revoked"]
        for secret in (first, second, third):
            assert hashlib.sha256(secret.encode()).hexdigest() not in json.dumps(command(a, "GET").json())
            for node in nodes:
                with node.client() as client:
                    assert secret not in str([client.hgetall(name) for name in client.keys("*keys*")])
    for gateway in (a, b):
        for secret in (first, second, third):
            assert secret not in json.dumps(gateway.log) + gateway.errors


def test_a_redis_that_dies_and_comes_back_empty_costs_nobody_a_key(
    tmp_path: Path, worker: LiveWorker, redis_server: RedisServer
) -> None:
    with start(tmp_path / "a", worker, redis_server.url) as a, start(tmp_path / "b", worker, redis_server.url) as b:
        a.wait_ready()
        b.wait_ready()
        kept, ended = make(a, id="kept"), make(a, id="ended")
        becomes(b, kept, 200)
        command(b, "DELETE", "/acme/ended")
        becomes(a, ended, 401)
        redis_server.kill()
        a.wait_log(lambda line: line["event"] == "key store away: serving with the keys known")
        assert [ask(gateway, kept).status_code for gateway in (a, b)] == [200, 200]
        refused = command(a, "DELETE", "/acme/kept")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert "Nothing was changed" in refused.json()["error"]["message"]
        listed = command(a, "GET").json()
        assert (listed["store"]["up"], [one["id"] for one in listed["keys"]]) == (False, ["ended", "k1", "kept"])
        assert a.metric("tollgate_keys_store_up") == 0.0
        assert a.metric("tollgate_keys", source="store") == 1.0

        redis_server.start()  # it keeps nothing on disk
        a.wait_log(lambda line: line["event"] == "key store back")
        with redis_server.client() as client:
            eventually(lambda: client.hlen(STORED) == 3 or None, "both records and the revision are back")
        assert [ask(gateway, kept).status_code for gateway in (a, b)] == [200, 200]
        assert [ask(gateway, ended).status_code for gateway in (a, b)] == [401, 401]
        assert command(a, "DELETE", "/acme/kept").status_code == 200
        becomes(b, kept, 401)
        with start(tmp_path / "c", worker, redis_server.url) as c:
            assert ask(c, kept).status_code == 401


def test_a_gateway_that_starts_without_its_redis_serves_the_yaml_and_calls_no_other_key_wrong(
    tmp_path: Path, worker: LiveWorker, redis_server: RedisServer
) -> None:
    with start(tmp_path / "a", worker, redis_server.url) as a, start(tmp_path / "b", worker, redis_server.url) as b:
        a.wait_ready()
        key = make(a)
        b.stop()
        redis_server.kill()
        b.start()
        b.wait_ready()
        assert ask(b, KEY).status_code == 200
        answer = ask(b, key)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert "cannot be checked at the moment" in answer.json()["error"]["message"]
        redis_server.start()
        eventually(lambda: ask(b, key).status_code == 200 or None, "the keys are known")
        assert ask(b, "sk-tg-wrong").status_code == 401


def test_a_redis_that_hangs_holds_no_request_up(tmp_path: Path, worker: LiveWorker, redis_server: RedisServer) -> None:
    with start(tmp_path, worker, redis_server.url) as gateway:
        gateway.wait_ready()
        key = make(gateway)
        redis_server.pause()
        try:
            gateway.wait_log(lambda line: line["event"] == "key store away: serving with the keys known")
            assert ask(gateway, key).status_code == 200
            assert command(gateway, "POST", "/acme/key-1/rotate").status_code == 503
        finally:
            redis_server.resume()
        gateway.wait_log(lambda line: line["event"] == "key store back")
        assert command(gateway, "DELETE", "/acme/key-1").status_code == 200
        assert ask(gateway, key).status_code == 401
