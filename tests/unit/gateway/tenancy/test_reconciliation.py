"""Processes that share a budget, and a ledger that hears of all they spend, in virtual time: whoever is killed, silent
or late, the books never end below the truth, and at rest they say it to the nano-USD."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.table import Budget, Key, Limits, Tenant
from gateway.tenancy.limiter import HERE, MemoryLimiter
from gateway.tenancy.limits import Lease
from gateway.tenancy.reconciliation import Reconciler
from gateway.tenancy.shared import SharedLimiter
from tests.unit.gateway.tenancy import stores
from tests.unit.gateway.tenancy.stores import Link, Store
from tests.unit.gateway.tenancy.virtual_time import VirtualLoop

BEGINNING = 1_790_000_000.0
USD = 1_000_000_000
EVERY, DELAY, LAG, READING = 5.0, 10.0, 1.0, 2.0
WINDOW = 12.0
REST = 2 * DELAY + 25.0  # seconds: others are known to be gone after 20
TTL = 20_000
BUDGET = Budget(1_000 * USD, "total", "reject")
TENANT = Tenant("support", None, Limits(), BUDGET, 1.0, "standard")
KEY = Key("prod", sha256(b"support").digest(), TENANT)


class Ledger:
    """What each process has recorded, in its order, as its settler brings it in: `LAG` later, or once it is well."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[float, int]]] = {}  # a reading is a row of nothing
        self.stuck: dict[str, float] = {}  # since when

    def record(self, source: str, at: float, cost: int) -> None:
        self.rows.setdefault(source, []).append((at, cost))

    def spent(self, now: float) -> int:
        return sum(cost for source in self.rows for _, cost in self._seen(source, now))

    def heard(self, now: float) -> dict[str, float]:
        last = {
            source: max((at for at, cost in self._seen(source, now) if not cost), default=0.0) for source in self.rows
        }
        return {source: at for source, at in last.items() if at >= now - WINDOW}

    def _seen(self, source: str, now: float) -> list[tuple[float, int]]:
        return [row for row in self.rows[source] if row[0] <= min(now - LAG, self.stuck.get(source, now))]


@dataclass(eq=False)
class Process:
    source: str
    link: Link
    limiter: SharedLimiter
    tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    running: list[tuple[Lease, int]] = field(default_factory=list[tuple[Lease, int]])


class Site:
    """`async with Site() as site:`."""

    def __init__(self) -> None:
        self.store = Store(self.now)
        self.ledger = Ledger()
        self.processes: list[Process] = []
        self.started = 0
        self.truth = 0

    def now(self) -> float:
        return BEGINNING + asyncio.get_running_loop().time()

    async def __aenter__(self) -> Site:
        self.start(0)
        self.start(1)
        await asyncio.sleep(1.5)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self.processes:
            await self._end(process)
            await process.limiter.close()

    def start(self, place: int) -> None:
        self.started += 1
        link = self.store.link()
        name = f"host:1.{place}/{self.started}"
        limiter = SharedLimiter(link, name, lambda *_: None, 2, TTL, self.now)
        process = Process(name, link, limiter)
        limiter.seed(TENANT, 0, self.ledger.spent(self.now()))
        process.tasks = [
            asyncio.create_task(work) for work in (limiter.run(), self._read(process), self._look(process))
        ]
        self.processes.insert(place, process)

    async def _read(self, process: Process) -> None:
        while True:
            self.ledger.record(process.source, self.now(), 0)
            await asyncio.sleep(READING)

    async def _look(self, process: Process) -> None:
        reconciler = Reconciler(process.limiter, process.source, DELAY)
        while True:
            await asyncio.sleep(EVERY)
            now = self.now()
            heard = self.ledger.heard(now) if reconciler.doubts else {}
            reconciler.hear(TENANT, 0, self.ledger.spent(now), heard, now)

    async def ask(self, at: int, money: int) -> None:
        process = self.processes[at]
        try:
            lease = process.limiter.admit(KEY, "", 1, money, self.now())
            if lease is None:
                lease = await process.limiter.wait(KEY, "", 1, money)
        except GatewayError:
            return
        process.running.append((lease, money))

    def settle(self, at: int, share: int) -> None:
        """The oldest request has cost so many hundredths of what was reserved."""
        process = self.processes[at]
        if process.running:
            lease, money = process.running.pop(0)
            cost = money * share // 100
            self._spend(process, cost)
            lease.settle(1, cost, self.now())

    def _spend(self, process: Process, cost: int) -> None:
        self.truth += cost
        if cost:
            self.ledger.record(process.source, self.now(), cost)

    async def kill(self, at: int, share: int) -> None:
        """What ran is recorded at its checkpoint; another takes its place."""
        process = self.processes.pop(at)
        await self._end(process)
        for _, money in process.running:
            self._spend(process, money * share // 100)
        self.start(at)

    async def _end(self, process: Process) -> None:
        for task in (*process.tasks, *process.limiter._tasks):  # pyright: ignore[reportPrivateUsage]
            task.cancel()
        await asyncio.gather(*process.tasks, return_exceptions=True)

    def settle_all(self) -> None:
        for at, process in enumerate(self.processes):
            while process.running:
                self.settle(at, 50)

    def spent(self) -> list[int | None]:
        return [one.spent for process in self.processes for one in process.limiter.standings(TENANT, self.now())]

    def account(self) -> Any:
        return self.store.books._tenants["support"]["budget:total"]  # pyright: ignore[reportPrivateUsage]


def run(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story)


async def _each_asks(site: Site, money: int = USD) -> None:
    for at in range(2):
        await site.ask(at, money)


def test_a_process_that_hears_of_nobody_learns_what_others_spent() -> None:
    async def story() -> None:
        async with Site() as site:
            await _each_asks(site)
            site.settle(0, 10)
            await asyncio.sleep(1.0)
            site.settle(1, 30)
            await asyncio.sleep(2 * EVERY)
            assert site.spent() == [site.truth] * 2

    run(story())


@pytest.mark.parametrize("settled", [True, False])
def test_a_killed_one_s_last_words_are_in_the_ledger(settled: bool) -> None:
    async def story() -> None:
        async with Site() as site:
            await _each_asks(site)
            if settled:
                site.settle(0, 70)
            await site.kill(0, 70)
            site.settle(1, 20)
            await asyncio.sleep(DELAY + EVERY + 1.0)
            assert site.account().money_spent == site.truth == USD * 9 // 10
            await asyncio.sleep(TTL / 1_000 - DELAY)
            await site.ask(1, 0)
            site.settle(1, 0)
            await asyncio.sleep(0.5)
            assert site.account().money_spent > site.truth, "what it held is charged"
            await _each_asks(site)
            site.settle_all()
            await asyncio.sleep(REST)
            assert site.account().money_spent == site.truth
            assert site.spent() == [site.truth] * 2

    run(story())


def test_a_charge_stays_while_its_holder_may_still_spend_it() -> None:
    """It is only cut off, and has what it held."""

    async def story() -> None:
        async with Site() as site:
            await _each_asks(site, 10 * USD)
            site.processes[0].link.weather = stores.AWAY
            site.settle(1, 0)
            await asyncio.sleep(TTL / 1_000 + REST)
            await site.ask(1, 0)
            site.settle(1, 0)
            await asyncio.sleep(REST)
            assert site.account().money_spent >= 10 * USD
            site.settle(0, 100)
            site.processes[0].link.weather = None
            await asyncio.sleep(REST)
            assert site.account().money_spent == site.truth == 10 * USD

    run(story())


def test_one_that_comes_back_after_all_is_not_given_back_what_it_was_not_charged() -> None:
    async def story() -> None:
        async with Site() as site:
            await _each_asks(site, 10 * USD)
            site.settle(1, 50)
            old = site.processes[0]
            old.link.weather = stores.AWAY
            old.tasks[1].cancel()  # it makes no readings
            site.start(0)
            await asyncio.sleep(TTL / 1_000 + REST)
            for _ in range(3):  # whoever claims first charges it
                await site.ask(0, 0)
                site.settle(0, 0)
                await asyncio.sleep(REST)
            assert site.account().money_spent == site.truth == 5 * USD
            old.link.weather = None
            site.settle(1, 20)
            await asyncio.sleep(10.0)
            assert site.account().money_spent >= site.truth == 7 * USD
            await asyncio.sleep(2 * REST)
            assert site.account().money_spent == site.truth

    run(story())


def test_what_somebody_is_yet_to_tell_is_not_counted_twice() -> None:
    async def story() -> None:
        async with Site() as site:
            await _each_asks(site)
            (late, _) = site.processes
            late.link.weather = stores.AWAY
            site.settle(0, 100)
            await asyncio.sleep(EVERY + 1.0)  # the other one has heard of it from the ledger meanwhile
            late.link.weather = None
            await asyncio.sleep(2.0)
            assert site.account().money_spent == site.truth == USD

    run(story())


def test_nothing_is_lowered_while_the_ledger_has_yet_to_hear_of_it() -> None:
    """Books and ledger stand still, and yet do not agree: a settler does not get on."""

    async def story() -> None:
        async with Site() as site:
            await _each_asks(site)
            site.ledger.stuck[site.processes[0].source] = site.now()
            await asyncio.sleep(0.1)
            site.settle(0, 100)
            site.settle(1, 10)
            await asyncio.sleep(10 * REST)
            assert site.account().money_spent == site.truth
            site.ledger.stuck.clear()
            await asyncio.sleep(REST)
            assert site.account().money_spent == site.truth
            site.ledger.record(site.processes[0].source, site.now(), -USD // 2)  # a correction
            site.truth -= USD // 2
            await asyncio.sleep(REST)
            assert site.account().money_spent == site.truth
            assert site.spent() == [site.truth] * 2

    run(story())


def test_the_word_of_a_moment_ago_does_not_take_the_place_of_news() -> None:
    """The other one tells of its use between the decision and the books' comparison."""

    async def story() -> None:
        async with Site() as site:
            await _each_asks(site)
            site.settle(0, 100)
            await asyncio.sleep(REST)
            limiter = site.processes[0].limiter
            site.settle(1, 40)
            await asyncio.sleep(0.4)
            limiter.seed(TENANT, 0, 0)
            limiter.inquire(TENANT, USD)  # what it said before that
            await asyncio.sleep(1.0)
            assert site.account().money_spent == site.truth == USD * 14 // 10

    run(story())


def test_a_process_that_shares_with_nobody_follows_the_ledger_both_ways() -> None:
    now, said = BEGINNING, 0
    limiter = MemoryLimiter(lambda *_: None, lambda: now)
    reconciler = Reconciler(limiter, HERE, DELAY)

    def spent() -> int | None:
        return limiter.standings(TENANT, now)[0].spent

    lease = limiter.admit(KEY, "", 1, USD, now)
    assert lease is not None
    for said, expected in ((USD // 2, USD // 2), (USD // 4, USD // 4), (USD, USD)):
        for _ in range(3):
            now += EVERY
            reconciler.hear(TENANT, 0, said, {HERE: now}, now)
            limiter.tick(now)
            if said < USD // 2:
                assert spent() == USD // 2, "before both have stood still for long enough"
        if said == USD // 4:
            for _ in range(3):
                now += EVERY
                reconciler.hear(TENANT, 0, said, {HERE: now}, now)
                limiter.tick(now)
            assert spent() == USD // 2, "its own request runs"
            lease.settle(1, 0, now)
            for _ in range(4):
                now += EVERY
                reconciler.hear(TENANT, 0, said, {HERE: now}, now)
                limiter.tick(now)
        assert spent() == expected
    reconciler.retain({})
    assert not reconciler.doubts


steps = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 1), st.integers(1, 20 * USD)),
    st.tuples(st.just("settle"), st.integers(0, 1), st.integers(0, 100)),
    st.tuples(st.just("kill"), st.integers(0, 1), st.integers(0, 100)),
    st.tuples(st.just("silent"), st.integers(0, 1), st.integers(0, 0)),
    st.tuples(st.just("back"), st.integers(0, 1), st.integers(0, 0)),
    st.tuples(st.just("stuck"), st.integers(0, 1), st.integers(0, 0)),
    st.tuples(st.just("unstuck"), st.integers(0, 1), st.integers(0, 0)),
    st.tuples(st.just("forget"), st.integers(0, 1), st.integers(0, 0)),
    st.tuples(st.just("wait"), st.sampled_from((0, 1, 6, 20, 40)), st.integers(0, 0)),
)


@settings(max_examples=40, deadline=None)
@given(story=st.lists(steps, max_size=30))
def test_whatever_happens_the_books_come_to_the_truth(story: list[tuple[str, int, int]]) -> None:
    async def play() -> None:
        async with Site() as site:
            for what, which, amount in story:
                await _step(site, what, which, amount)
                await asyncio.sleep(0.01)
            for process in site.processes:
                process.link.weather = None
            site.ledger.stuck.clear()
            await asyncio.sleep(10.0)
            site.settle_all()
            await asyncio.sleep(TTL / 1_000 + DELAY + EVERY)
            for at in range(2):  # the silent are charged when somebody claims
                await site.ask(at, USD)
                site.settle(at, 50)
            for _ in range(8):
                await asyncio.sleep(EVERY)
                assert not site.spent() or site.account().money_spent >= site.truth, "all is told"
            await asyncio.sleep(2 * REST)
            assert site.spent() == [site.truth] * 2

    run(play())


async def _step(site: Site, what: str, which: int, amount: int) -> None:
    process = site.processes[which] if which < 2 else site.processes[0]
    if what == "ask":
        await site.ask(which, amount)
    elif what == "settle":
        site.settle(which, amount)
    elif what == "kill":
        await site.kill(which, amount)
    elif what == "silent":
        process.link.weather = stores.AWAY
    elif what == "back":
        process.link.weather = None
    elif what == "stuck":
        site.ledger.stuck.setdefault(process.source, site.now())
    elif what == "unstuck":
        site.ledger.stuck.pop(process.source, None)
    elif what == "forget":
        site.store.forget()
    else:
        await asyncio.sleep(which)
