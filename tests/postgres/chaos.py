"""Everything that can go wrong between a sink and PostgreSQL, at random and for as long as one likes."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import NamedTuple

from redis import Redis

from tests.postgres.consumer_process import BOUNDARIES
from tests.postgres.scene import Scene
from tests.postgres.server import PostgresServer
from tests.redis.conftest import RedisServer

CONSUMERS = 2
MOST_BATCHES_AT_ONCE = 4


class Grounds(NamedTuple):
    redis: RedisServer
    postgres: PostgresServer
    random: random.Random


def _redis_is_emptied(grounds: Grounds) -> None:
    with grounds.redis.client() as client:
        client.flushall()


def _redis_evicts(grounds: Grounds) -> None:
    with grounds.redis.client() as client:
        if keys := sorted(client.keys("tollgate*")):  # type: ignore[type-var]
            client.delete(grounds.random.choice(keys))


def _redis_is_killed(grounds: Grounds) -> None:
    grounds.redis.kill()
    grounds.redis.start()


def _redis_pauses(grounds: Grounds) -> None:
    grounds.redis.pause()
    try:
        time.sleep(grounds.random.random() * 1.5)
    finally:
        grounds.redis.resume()


def _redis_is_full(grounds: Grounds) -> None:
    with grounds.redis.client() as client:
        _limit(client, 1)
        time.sleep(grounds.random.random() / 3)
        _limit(client, 0)


def _limit(client: Redis, memory: int) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", memory)


def _postgres_is_killed(grounds: Grounds) -> None:
    grounds.postgres.kill()
    time.sleep(grounds.random.random() / 3)
    grounds.postgres.start()


def _postgres_pauses(grounds: Grounds) -> None:
    with grounds.postgres.paused():
        time.sleep(grounds.random.random())


FAULTS: Mapping[str, Callable[[Grounds], None]] = {
    fault.__name__.strip("_").replace("_", " "): fault
    for fault in (
        _redis_is_emptied,
        _redis_evicts,
        _redis_is_killed,
        _redis_pauses,
        _redis_is_full,
        _postgres_is_killed,
        _postgres_pauses,
    )
}


def run(grounds: Grounds, ledger: str, seconds: float) -> Counter[str]:
    """Batches and faults in turn, while consumers die at random boundaries; then everything must be there once. Raises
    AssertionError otherwise; gives what happened."""
    happened: Counter[str] = Counter()
    consumers: list[subprocess.Popen[bytes]] = []
    until = time.monotonic() + seconds
    with closing(Scene(grounds.redis.url, ledger)) as scene:
        try:
            while time.monotonic() < until:
                dead = [consumer for consumer in consumers if consumer.poll() is not None]
                happened["kills"] += len(dead)
                consumers = [consumer for consumer in consumers if consumer not in dead]
                while len(consumers) < CONSUMERS:
                    consumers.append(_mortal(grounds, ledger))
                for _ in range(grounds.random.randint(1, MOST_BATCHES_AT_ONCE)):
                    happened["refused batches"] += not scene.offer()
                if grounds.random.random() < 0.6:
                    fault = grounds.random.choice(sorted(FAULTS))
                    FAULTS[fault](grounds)
                    happened[fault] += 1
                scene.is_settled()
            scene.consume()
            scene.settles()
        finally:
            for consumer in consumers:
                consumer.kill()
                consumer.wait()
        happened["rows"] = scene.rows
    return happened


def _mortal(grounds: Grounds, ledger: str) -> subprocess.Popen[bytes]:
    boundary, after = grounds.random.choice(BOUNDARIES), str(grounds.random.randint(1, 4))
    arguments = [grounds.redis.url, ledger, boundary, after]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.postgres.consumer_process", *arguments], stderr=subprocess.DEVNULL
    )
