"""A moment of `python -m tests.postgres`."""

from __future__ import annotations

import random

from tests.postgres.chaos import Grounds, run
from tests.postgres.server import PostgresServer
from tests.redis.conftest import RedisServer


def test_faults_at_random_lose_and_double_nothing(
    redis_server: RedisServer, postgres: PostgresServer, url: str
) -> None:
    happened = run(Grounds(redis_server, postgres, random.Random(1)), url, seconds=4.0)
    assert happened["rows"] > 0
