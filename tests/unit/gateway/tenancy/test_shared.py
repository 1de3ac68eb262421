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
UNLIMITED = Limits()


def key(limits: Limits = UNLIMITED, budget: Budget | None = None) -> Key:
    return Key("prod", sha256(b"support").digest(), Tenant("support", None, limits, budget, 1.0, "standard"))


class Site:
    """`async with Site(4) as site:` is four processes on one store."""

    def __init__(self, processes: int) -> None:
        self.store = Store(self.now)
        self.alerts: list[int] = []
        self.links = [self.store.link() for _ in range(processes)]
        self.limiters = [
            SharedLimiter(link, f"p{i}", self._alert, processes, clock=self.now) for i, link in enumerate(self.links)
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


@pytest.mark.parametrize(
    ("trouble", "outage"),
    [
        *itertools.product([stores.AWAY, stores.LOST, stores.DEAF, stores.LATE], [0.7, 30.0]),
        (stores.AWAY, 150.0),
    ],
)
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
            site.store.weather = stores.AWAY
            await asyncio.sleep(20)
            for link in site.links[2:]:
                link.weather = stores.AWAY
            site.store.weather = stores.FINE
            await asyncio.sleep(1.2)
            for link in site.links[2:]:
                link.weather = None
            assert most_over(await demand, rpm) <= 1e-6

    run(story())


def test_alone_it_says_what_it_cannot_confirm_and_never_that_a_request_is_too_large() -> None:
    async def story() -> None:
        async with Site(4) as site:
            site.store.weather = stores.AWAY
            small, narrow = key(Limits(rpm=3)), key(Limits(tpm=1_000))
            error = await site.refusal(0, small)
            assert "can not be confirmed at the moment" in error.message
            assert (error.status, error.retryable, error.retry_after) == (429, True, 1.0)
            error = await site.refusal(0, narrow, tokens=500)
            assert "Limit 1000, here until it is back 200, Requested 500" in error.message
            assert error.retryable
            assert not (await site.refusal(0, narrow, tokens=1_001)).retryable

    run(story())


def test_money_is_spent_from_what_is_held_and_no_more_while_the_store_is_away() -> None:
    async def story() -> None:
        async with Site(2) as site:
            who = key(budget=Budget(10 * USD, "total", "reject"))
            lease = await site.ask(0, who, money=USD)
            site.store.weather = stores.LOST
            error = await site.refusal(1, who, money=USD)
            assert "can not be confirmed" in error.message
            assert not lease.extend(9 * USD)
            lease.settle(1, USD // 2, site.now())
            await asyncio.sleep(1.0)
            (await site.ask(0, who, money=USD // 2)).settle(1, USD // 2, site.now())
            site.store.weather = stores.FINE
            await asyncio.sleep(6.0)
            await site.ask(1, who, money=9 * USD)
            await site.refusal(0, who, money=1)

    run(story())


def test_what_a_lost_answer_granted_is_given_back_by_those_who_never_heard_of_it() -> None:
    async def story() -> None:
        async with Site(2) as site:
            who = key(budget=Budget(10 * USD, "total", "reject"))
            site.store.weather = stores.DEAF
            await site.refusal(0, who, money=8 * USD)
            site.store.weather = stores.FINE
            await asyncio.sleep(6.0)
            await site.ask(1, who, money=10 * USD)

    run(story())


def test_the_dead_are_charged_and_refunded_should_they_come_back() -> None:
    async def story() -> None:
        async with Site(2) as site:
            who = key(budget=Budget(10 * USD, "total", "reject"))
            lease = await site.ask(0, who, money=6 * USD)
            (await site.ask(1, who, money=USD)).settle(0, USD, site.now())
            site.links[0].weather = stores.AWAY
            await asyncio.sleep(62.0)
            error = await site.refusal(1, who, money=4 * USD)
            assert isinstance(error, QuotaExhausted), "what it held counts as spent"
            (await site.ask(1, who, money=USD)).settle(0, USD, site.now())
            lease.settle(0, 2 * USD, site.now())
            site.links[0].weather = None
            await asyncio.sleep(6.0)
            (await site.ask(1, who, money=6 * USD)).settle(0, 0, site.now())
            await asyncio.sleep(6.0)
            await site.ask(0, who, money=6 * USD)
            await site.refusal(1, who, money=1)

    run(story())


def test_a_request_is_not_refused_for_what_others_before_it_waited_for() -> None:
    """More money for requests under way and new requests are asked for together; each gets its own answer."""

    async def story() -> None:
        async with Site(1) as site:
            who = key(Limits(rpm=1_000), Budget(100 * USD, "total", "reject"))
            leases = [await site.ask(0, who, money=USD) for _ in range(20)]
            for lease in leases:
                lease.extend(2 * USD)
            first = [asyncio.create_task(site.ask(0, who, money=USD)) for _ in range(5)]
            await asyncio.sleep(0.0005)
            second = [asyncio.create_task(site.ask(0, who, money=USD)) for _ in range(10)]
            await asyncio.gather(*first, *second)
            assert all(lease.extend(2 * USD) for lease in leases)
            assert [lease.money for lease in leases] == [2 * USD] * 20  # type: ignore[attr-defined]

    run(story())


def test_nobody_waits_for_a_limiter_that_is_closed() -> None:
    async def story() -> None:
        async with Site(1) as site:
            who = key(Limits(rpm=10))
            site.store.weather = stores.SLOW
            waiting = asyncio.create_task(site.ask(0, who))
            await asyncio.sleep(0.1)
            await site.limiters[0].close()
            with pytest.raises(RateLimited):
                await waiting

    run(story())


@pytest.mark.parametrize("away", [0.0, 0.4, 5.0])
def test_a_store_that_has_lost_everything_learns_it_again(away: float) -> None:
    rpm = 1_200

    async def story() -> None:
        async with Site(4) as site:
            who = key(Limits(rpm=rpm))
            demand = asyncio.create_task(site.demand(who, site.now() + 60))
            await asyncio.sleep(30)
            if away:
                site.store.weather = stores.AWAY
                await asyncio.sleep(away)
            site.store.forget()
            site.store.weather = stores.FINE
            # With nobody the wiser, what some hold is unknown for as long as it takes them to speak.
            over = most_over(await demand, rpm)
            assert over <= (1e-6 if away else 0.02 * rpm)

    run(story())


@pytest.mark.parametrize("away", [0.0, 5.0])
def test_money_that_was_spent_stays_spent_in_a_store_that_has_lost_everything(away: float) -> None:
    async def story() -> None:
        async with Site(3) as site:
            who = key(budget=Budget(10 * USD, "total", "reject"))
            running = await site.ask(0, who, money=3 * USD)
            (await site.ask(1, who, money=4 * USD)).settle(1, 4 * USD, site.now())
            await asyncio.sleep(1.0)
            if away:
                site.store.weather = stores.AWAY
                await asyncio.sleep(away)
            site.store.forget()
            site.store.weather = stores.FINE
            await asyncio.sleep(7.0)
            for at in (2, 1, 0):
                await site.refusal(at, who, money=4 * USD)
            await site.ask(2, who, money=3 * USD)
            running.settle(1, 3 * USD, site.now())
            for at in (2, 1, 0):
                await site.refusal(at, who, money=1)

    run(story())


def test_what_was_refused_a_moment_ago_and_has_come_free_while_others_wait() -> None:
    async def story() -> None:
        async with Site(1) as site:
            who = key(Limits(concurrency=1))
            first = await site.ask(0, who)
            await site.refusal(0, who, tokens=5)
            smaller = asyncio.create_task(site.ask(0, who, tokens=1))
            await asyncio.sleep(0)
            first.settle(0, 0, site.now())
            assert site.limiters[0].admit(who, "", 5, 0, site.now()) is None, "it is not its turn, but it may fit"
            await smaller

    run(story())
