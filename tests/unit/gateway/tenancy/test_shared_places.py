"""Processes that share one store: what one does not need, another may have at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from hashlib import sha256

import pytest

from gateway.errors import RateLimited
from gateway.state.limits import Call, Presence
from gateway.table import Key, Tenant
from gateway.tenancy.book import Books, Claim, Demand
from gateway.tenancy.limits import Lease
from gateway.tenancy.shared import SharedLimiter
from tests.unit.gateway.tenancy.desk import tenant


class Store:
    """Books that all may ask, as `state.limits.RedisLimits` is one: it answers in the next turn of the loop."""

    def __init__(self) -> None:
        self._books = Books()

    async def claim(self, calls: Sequence[Call]) -> list[list[int]]:
        await asyncio.sleep(0)
        return [self._one(call) for call in calls]

    def _one(self, call: Call) -> list[int]:
        holder, seq, ttl, _, names, claims, demands = call.written
        now = int(time.time() * 1_000)
        made = [Claim(*claim) for claim in claims]
        grants = self._books.claim(call.tenant, holder, seq, ttl, names, made, [Demand(*one) for one in demands], now)
        return [now, 0, *(number for grant in grants for number in grant)]

    async def present(self, holder: str, *, well: bool = True) -> Presence:
        return Presence(2, is_known=True, has_company=True)

    async def leave(self, holder: str) -> None: ...

    async def close(self) -> None: ...


class Process:
    def __init__(self, store: Store, name: str) -> None:
        self.limiter = SharedLimiter(store, name, lambda *_: None)

    async def ask(self, who: Tenant) -> Lease:
        key = Key("prod", sha256(who.name.encode()).digest(), who)
        return self.limiter.admit(key, "", 1, 0, time.time()) or await self.limiter.wait(key, "", 1, 0)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_one_request_after_another_finds_the_only_place_free_wherever_it_comes() -> None:
    async def main() -> None:
        store, who = Store(), tenant(concurrency=1)
        processes = [Process(store, name) for name in "ab"]
        (await processes[0].ask(who)).settle(1, 0, time.time())
        with pytest.raises(RateLimited):  # until they know of each other
            await processes[1].ask(who)
        processes[0].limiter.tick(time.time() + 1)
        await turns()
        for process in processes * 5:
            (await process.ask(who)).settle(1, 0, time.time())
            await turns()

    asyncio.run(main())


def test_a_lower_limit_of_places_holds_under_load() -> None:
    async def main() -> None:
        store = Store()
        processes = [Process(store, name) for name in "ab"]
        running = [(one, await one.ask(tenant(concurrency=8))) for one in processes * 4]
        lower = tenant(concurrency=2)
        for _ in range(20):  # each that ends is followed by another request
            process, lease = running.pop(0)
            lease.settle(1, 0, time.time())
            await turns()
            try:
                running.append((process, await process.ask(lower)))
            except RateLimited:
                continue
        assert len(running) <= 2

    asyncio.run(main())
