"""Limits of real gateways on a real Redis: one limit for all their processes, and a stated one while Redis is away."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from tests.eventually import eventually
from tests.gateway_process import GatewayProcess, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker
from tests.redis.conftest import RedisServer

pytestmark = pytest.mark.redis

PATH = "/v1/chat/completions"
PRICE = {"input_usd_per_m": 1_000, "output_usd_per_m": 10_000}
COST_USD = (24 * 1_000 + 4 * 10_000) / 1_000_000  # of `BODY`, as the stand-in counts its tokens
BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
RPM = 240
TENANTS: dict[str, dict[str, Any]] = {
    "fast": {"limits": {"rpm": RPM}},
    "few": {"limits": {"rpm": 20}},
    "narrow": {"limits": {"concurrency": 6}},
    "poor": {"budget": {"usd": 20.9 * COST_USD, "per": "day"}},
    "free": {},
}
BACK = "limits are shared again: their store is back"
AWAY = "limits are kept by this process alone: their store is away"


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


@contextmanager
def gateways(
    directory: Path, worker: LiveWorker, state: str, count: int, processes: int
) -> Generator[list[GatewayProcess]]:
    entries = {name: tenant(f"sk-test-{name}", **settings) for name, settings in TENANTS.items()}
    server = {"host": "127.0.0.1", "port": 4000, "drain_seconds": 5, "processes": processes}
    written = configuration([worker_entry("w0", worker.url, price=PRICE)], server=server, state=state, tenants=entries)
    started = [GatewayProcess(directory / f"gateway-{i}", written) for i in range(count)]
    try:
        with ThreadPoolExecutor() as threads:
            list(threads.map(GatewayProcess.start, started))
        for gateway in started:
            gateway.wait_ready()
        yield started
    finally:
        with ThreadPoolExecutor() as threads:
            list(threads.map(GatewayProcess.stop, [gateway for gateway in started if gateway.url]))


class Answer(NamedTuple):
    asked: float
    at: float
    name: str
    status: int
    code: str | None


class Load:
    """Clients that ask without a pause, each on connections of its own, so that every process hears of some."""

    def __init__(self, gateways: list[GatewayProcess], **clients: int) -> None:
        self.answers: list[Answer] = []
        self.troubles: list[Exception] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(gateway, name), daemon=True)
            for name, count in clients.items()
            for _ in range(count)
            for gateway in gateways
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30.0)

    def _ask(self, gateway: GatewayProcess, name: str) -> None:
        try:
            with gateway.client(f"sk-test-{name}") as client:
                while not self._over.is_set():
                    asked = time.monotonic()
                    answer = client.post(PATH, json=BODY)
                    code = None if answer.status_code == 200 else answer.json()["error"]["code"]
                    self.answers.append(Answer(asked, time.monotonic(), name, answer.status_code, code))
                    self._over.wait(0.01)
        except Exception as error:  # whatever ends a client is for the test to see
            self.troubles.append(error)

    def statuses(self, name: str) -> Counter[int]:
        return Counter(answer.status for answer in self.answers if answer.name == name)

    def check(self) -> None:
        """No client saw an error of the gateway's, and whoever has no limits was never refused."""
        assert not self.troubles
        assert {answer.status for answer in self.answers} <= {200, 429}
        assert set(self.statuses("free")) <= {200}

    def most_over(self, name: str, rpm: int) -> float:
        """By how many requests the fullest span of time surely passed the limit."""
        admitted = [answer for answer in self.answers if answer.name == name and answer.status == 200]
        most = float("-inf")
        for first in admitted:
            inside = sorted(answer.at for answer in admitted if answer.asked >= first.asked)
            for i, at in enumerate(inside):
                most = max(most, i + 1 - rpm - (at - first.asked) * rpm / 60)
        return most


def ask(gateway: GatewayProcess, name: str) -> httpx2.Response:
    with gateway.client(f"sk-test-{name}") as client:
        return client.post(PATH, json=BODY)


def used_up(load: Load) -> None:
    """Until all say that there is no money left."""
    eventually(lambda: [a.code for a in load.answers[-30:]].count("insufficient_quota") == 30 or None, "used up")


def test_four_processes_keep_one_limit(tmp_path: Path, worker: LiveWorker, redis_server: RedisServer) -> None:
    with gateways(tmp_path, worker, redis_server.url, 2, 2) as both:
        began = time.monotonic()
        with Load(both, few=4, free=1) as load:
            time.sleep(2.5)
        load.check()
        admitted = load.statuses("few")[200]
        assert 20 <= admitted <= 20 + (time.monotonic() - began) * 20 / 60
        assert load.most_over("few", 20) <= 0

        worker.behave(header_delay=0.05)
        with Load(both, narrow=8) as load:
            most = 0
            until = time.monotonic() + 2.5
            while time.monotonic() < until:
                most = max(most, worker.active)
                time.sleep(0.002)
        worker.behave()
        load.check()
        assert most == 6
        assert load.statuses("narrow")[200] >= 0.5 * 6 * 2.5 / 0.06

        with Load(both, poor=4) as load:
            used_up(load)
        load.check()
        assert load.statuses("poor")[200] == 20


def test_redis_goes_and_comes_back_under_load(tmp_path: Path, worker: LiveWorker, redis_server: RedisServer) -> None:
    with gateways(tmp_path, worker, redis_server.url, 2, 1) as both:
        for gateway in both:
            assert ask(gateway, "poor").status_code == 200
        with Load(both, fast=3, narrow=1, free=1) as load:
            eventually(lambda: load.statuses("fast")[429] or None, "the limit is reached")
            for trouble in ("paused", "killed", "full", "slow", "read only"):
                with troubled(redis_server, trouble):
                    for gateway in both:
                        gateway.wait_log(lambda line: line["event"] == AWAY)
                    served = load.statuses("free")[200]
                    time.sleep(1.0)
                    assert load.statuses("free")[200] > served
                for gateway in both:
                    gateway.wait_log(lambda line: line["event"] == BACK)
                    assert not gateway.faults
                    gateway.log.clear()
        load.check()
        assert load.most_over("fast", RPM) <= 0
        assert max(answer.at - answer.asked for answer in load.answers) < 5.0
        with Load(both, poor=1) as load:
            used_up(load)
        load.check()
        assert load.statuses("poor")[200] == 18


@contextmanager
def troubled(redis: RedisServer, trouble: str) -> Generator[None]:
    match trouble:
        case "paused":
            redis.pause()
            yield
            redis.resume()
        case "killed":
            redis.kill()
            yield
            redis.start()
        case "full":
            with redis.client() as client:
                client.config_set("maxmemory-policy", "noeviction")
                client.config_set("maxmemory", "1")
                yield
                client.config_set("maxmemory", "0")
        case "slow":
            over = threading.Event()

            def hold() -> None:
                with redis.client() as client:
                    while not over.is_set():
                        client.execute_command("CLIENT PAUSE 700 ALL")

            thread = threading.Thread(target=hold)
            thread.start()
            yield
            over.set()
            thread.join()
        case _:
            with redis.client() as client:
                client.execute_command("REPLICAOF 127.0.0.1 1")
                yield
                client.execute_command("REPLICAOF NO ONE")


def test_redis_is_not_there_at_the_start(tmp_path: Path, worker: LiveWorker, redis_server: RedisServer) -> None:
    redis_server.kill()
    with gateways(tmp_path, worker, redis_server.url, 1, 1) as (gateway,):
        with Load([gateway], fast=2, free=1, poor=1) as load:
            eventually(lambda: load.statuses("fast")[200] >= 3 or None, "its part of the limit")
        load.check()
        assert load.most_over("fast", RPM * 8 // 10) <= 0
        assert set(load.statuses("poor")) == {429}
        redis_server.start()
        gateway.wait_log(lambda line: line["event"] == BACK)
        eventually(lambda: ask(gateway, "poor").status_code == 200 or None, "the budget is there")
        assert ask(gateway, "few").headers["x-ratelimit-limit-requests"] == "20"


def test_a_replica_takes_over(tmp_path: Path, worker: LiveWorker, redis_server: RedisServer) -> None:
    """The gateway's address of Redis stays; who answers there has all but the last moments."""
    replica = RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(redis_server.port))
    replica.start()
    try:
        with gateways(tmp_path, worker, redis_server.url, 1, 1) as (gateway,):
            with Load([gateway], poor=2) as load:
                eventually(lambda: load.statuses("poor")[200] >= 8 or None, "some of it is spent")
            time.sleep(0.5)
            with replica.client() as client:
                eventually(lambda: client.info("replication")["master_link_status"] == "up" or None, "it follows")
                redis_server.kill()
                client.execute_command("REPLICAOF NO ONE")
                client.config_set("port", str(redis_server.port))
            spent = load.statuses("poor")[200]
            with Load([gateway], poor=2) as load:
                used_up(load)
            load.check()
            assert spent + load.statuses("poor")[200] == 20
    finally:
        replica.stop()
