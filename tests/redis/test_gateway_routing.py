"""Gateways on one Redis route as one: a prompt goes where another gateway has sent its beginning."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.gateway_process import GatewayProcess, configuration
from tests.live_worker import LiveWorker
from tests.redis.conftest import RedisServer

pytestmark = pytest.mark.redis

PATH = "/v1/chat/completions"
WORKERS = ("w0", "w1", "w2", "w3")
PROMPTS = 8


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        live = {name: stack.enter_context(LiveWorker()) for name in WORKERS}
        for worker in live.values():
            worker.behave(header_delay=0.2)  # so that prompts that come together find the others' workers busy
        yield {name: worker.url for name, worker in live.items()}


def ask(gateway: GatewayProcess, prompt: int, turn: int = 0) -> str:
    """The worker that answers a long prompt; later turns begin as the first."""
    said = f"{prompt} is a number. " * 800 + "And then. " * 20 * turn
    body: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": said}], "max_tokens": 1}
    with gateway.client() as client:
        answer = client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-tollgate-worker"]


def ask_all(gateway: GatewayProcess) -> list[str]:
    with ThreadPoolExecutor(PROMPTS) as threads:
        return list(threads.map(partial(ask, gateway), range(PROMPTS)))


def test_a_prompt_goes_where_another_gateway_has_sent_its_beginning(
    workers: dict[str, str], redis_server: RedisServer, tmp_path: Path
) -> None:
    written = configuration(workers, state=redis_server.url)
    with GatewayProcess(tmp_path / "a", written) as one, GatewayProcess(tmp_path / "b", written) as other:
        for gateway in (one, other):
            gateway.wait_ready()
        first = ask_all(one)
        assert len(set(first)) > 1, "they are spread"
        time.sleep(0.5)  # some turns of what the gateways tell each other; nothing shows when it is heard
        assert [ask(other, prompt, turn=1) for prompt in range(PROMPTS)] == first


def test_without_redis_each_knows_its_own(workers: dict[str, str], redis_server: RedisServer, tmp_path: Path) -> None:
    written = configuration(workers, state=redis_server.url)
    with GatewayProcess(tmp_path / "a", written) as gateway:
        gateway.wait_ready()
        redis_server.kill()
        gateway.wait_log(lambda line: line["event"] == "other gateways are not heard: each decides alone")
        first = ask_all(gateway)
        assert [ask(gateway, prompt, turn=1) for prompt in range(PROMPTS)] == first
        redis_server.start()
        gateway.wait_log(lambda line: line["event"] == "other gateways are heard again")
