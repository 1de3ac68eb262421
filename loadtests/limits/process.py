"""One process of the test, started by `site`: a limiter and a thousand clients that ask it for more than there is."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import NamedTuple

from gateway.errors import GatewayError
from gateway.state.limits import RedisLimits
from gateway.table import Key
from gateway.tenancy.shared import SharedLimiter
from loadtests.limits.events import ADMITTED, FAILED, LAG, REFUSED, SETTLED, Event, Writer
from loadtests.limits.tenants import MONEY, TOKENS, key, tenants

SHORTEST, LONGEST = 0.02, 0.15  # seconds a request takes
LAG_EVERY = 0.02
MOST_PATIENT = 0.5  # seconds after which a refused client asks again whatever it was told


class Orders(NamedTuple):
    redis: str
    name: str
    file: str
    processes: int
    clients: int
    ttl: int  # milliseconds
    budget: int
    pause: float  # seconds between a client's requests, on average
    seed: int


class Clients:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._dice = random.Random(orders.seed)
        self._writer = Writer(Path(orders.file))
        self._leases = 0
        self._refused = 0
        self._limiter = SharedLimiter(
            RedisLimits.open(orders.redis), orders.name, _unmoved, orders.processes, orders.ttl
        )

    async def run(self) -> None:
        keys = [key(tenant) for tenant in tenants(self._orders.budget)]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._limiter.run())
            tasks.create_task(self._watch())
            for _ in range(self._orders.clients):
                tasks.create_task(self._client(keys))

    async def _client(self, keys: list[Key]) -> None:
        dice = self._dice
        await asyncio.sleep(dice.random() * self._orders.pause)
        while True:
            number = dice.randrange(len(keys))
            wait = await self._request(number, keys[number])
            await asyncio.sleep(wait + dice.expovariate(1 / self._orders.pause))

    async def _request(self, number: int, key: Key) -> float:
        """How long to stay away."""
        limiter, writer, dice = self._limiter, self._writer, self._dice
        try:
            lease = limiter.admit(key, "", TOKENS, MONEY, time.time())
            if lease is None:
                lease = await limiter.wait(key, "", TOKENS, MONEY)
        except GatewayError as error:
            self._refused += 1
            if error.status != 429:
                writer.write(Event(time.monotonic(), FAILED, number, 0, 0, 0))
            return min(MOST_PATIENT, error.retry_after or MOST_PATIENT)
        self._leases += 1
        mine = self._leases
        writer.write(Event(time.monotonic(), ADMITTED, number, mine, TOKENS, MONEY))
        await asyncio.sleep(dice.uniform(SHORTEST, LONGEST))
        tokens, money = int(TOKENS * dice.random()), int(MONEY * dice.random())
        writer.write(Event(time.monotonic(), SETTLED, number, mine, tokens, money))
        lease.settle(tokens, money, time.time())
        return 0.0

    async def _watch(self) -> None:
        """How late the event loop is, and with it what is written."""
        while True:
            due = time.monotonic() + LAG_EVERY
            await asyncio.sleep(LAG_EVERY)
            now = time.monotonic()
            self._writer.write(Event(now, LAG, 0, int(max(0.0, now - due) * 1e6), 0, 0))
            if self._refused:
                self._writer.write(Event(now, REFUSED, 0, self._refused, 0, 0))
                self._refused = 0


def _unmoved(tenant: str, percent: int, spent: int) -> None:
    """Whatever is told of a budget."""


if __name__ == "__main__":
    asyncio.run(Clients(Orders(*json.loads(sys.argv[1]))).run())
