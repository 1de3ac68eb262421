"""Processes under more demand than their limits allow, in virtual time, while their store goes and comes back."""

from __future__ import annotations

import asyncio
import itertools
from hashlib import sha256

import pytest

from gateway.errors import GatewayError, QuotaExhausted, RateLimited
from gateway.table import Budget, Key, Limits, Tenant
from gateway.tenancy.limits import Lease
from gateway.tenancy.shared import SharedLimiter
from tests.unit.gateway.tenancy import stores
from tests.unit.gateway.tenancy.stores import Store
from tests.unit.gateway.tenancy.virtual_time import VirtualLoop

BEGINNING = 1_790_000_000.0
USD = 1_000_000_000


def key(limits: Limits = Limits(), budget: Budget | None = None, of_key: Limits = Limits()) -> Key:
    tenant = Tenant("support", None, limits, budget, 1.0, "standard")
    return Key("prod", sha256(b"support").digest(), tenant, limits=of_key)


class Site:
    """`async with Site(4) as site:` is four processes on one store."""

    def __init__(self, processes: int) -> None:
        self.store = Store(self.now)
        self.alerts: list[int] = []
        self.limiters = [
            SharedLimiter(self.store.link(), f"p{i}", self._alert, processes, clock=self.now) for i in range(processes)
        ]

    def now(self) -> float:
        return BEGINNING + asyncio.get_running_loop().time()

    def _alert(self, tenant: str, percent: int, spent: int) -> None:
        self.alerts.append(percent)

    async def __aenter__(self) -> Site:
        self._running = [asyncio.create_task(limiter.run()) for limiter in self.limiters]
        await asyncio.sleep(1.0)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for limiter in self.limiters:
            await limiter.close()

    async def ask(self, at: int, who: Key, tokens: int = 1, money: int = 0) -> Lease:
        lease = self.limiters[at].admit(who, "", tokens, money, self.now())
        return lease if lease is not None else await self.limiters[at].wait(who, "", tokens, money)

    async def refusal(self, at: int, who: Key, tokens: int = 1, money: int = 0) -> GatewayError:
        with pytest.raises((RateLimited, QuotaExhausted)) as caught:
            await self.ask(at, who, tokens, money)
        return caught.value

    async def demand(self, who: Key, until: float, every: float = 0.04, tokens: int = 1) -> list[float]:
        """All processes are asked again and again; when they said yes."""
        admitted: list[float] = []

        async def insist(at: int) -> None:
            while self.now() < until:
                try:
                    lease = await self.ask(at, who, tokens)
                except RateLimited:
                    pass
                else:
                    admitted.append(self.now())
                    lease.settle(tokens, 0, self.now())
                await asyncio.sleep(every)

        await asyncio.gather(*map(insist, range(len(self.limiters))))
        return sorted(admitted)


def run(story: object) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story)  # type: ignore[arg-type]


def most_over(admitted: list[float], per_minute: float) -> float:
    """By how many requests the fullest span of time passes a full minute's worth and what came since."""
    level, last, most = 0.0, 0.0, 0.0
    for moment in admitted:
        level = max(0.0, level - (moment - last) * per_minute / 60) + 1
        last = moment
        most = max(most, level)
    return most - per_minute


@pytest.mark.parametrize("trouble", [stores.AWAY, stores.LOST, stores.DEAF, stores.LATE])
@pytest.mark.parametrize("outage", [0.7, 30.0, 150.0])
def test_no_more_and_hardly_less_than_the_limit_whatever_becomes_of_the_store(trouble: str, outage: float) -> None:
    rpm = 1_200

    async def story() -> None:
        async with Site(4) as site:
            who = key(Limits(rpm=rpm))
            began = site.now()
            demand = asyncio.create_task(site.demand(who, began + 30 + outage + 60))
            await asyncio.sleep(30)
            site.store.weather = trouble
            await asyncio.sleep(outage)
            site.store.weather = stores.FINE
            back = site.now()
            admitted = await demand
            assert most_over(admitted, rpm) <= 1e-6
            before = sum(moment < began + 30 for moment in admitted)
            assert before >= 0.98 * 1.5 * rpm
            after = sum(back + 5 <= moment < back + 60 for moment in admitted)
            assert after >= 0.98 * rpm * 55 / 60
            if outage > 10:
                meanwhile = sum(began + 30 + 5 <= moment < back for moment in admitted)
                assert meanwhile == pytest.approx(0.8 * rpm * (outage - 5) / 60, rel=0.03)

    run(story())


def test_those_that_come_back_later_are_waited_for() -> None:
    """Two of four hear of the store again a second before the others: what those use meanwhile is kept for them."""
    rpm = 600

    async def story() -> None:
        async with Site(4) as site:
            who = key(Limits(rpm=rpm))
            demand = asyncio.create_task(site.demand(who, site.now() + 65, every=0.02))
            await asyncio.sleep(30)
            links = [limiter._far for limiter in site.limiters]  # pyright: ignore
            site.store.weather = stores.AWAY
            await asyncio.sleep(20)
            for link in links[2:]:
                link.weather = stores.AWAY
            site.store.weather = stores.FINE
            await asyncio.sleep(1.2)
            for link in links[2:]:
                link.weather = None
            assert most_over(await demand, rpm) <= 1e-6

    run(story())
