"""Several processes on one store, in virtual time: whatever happens to messages, processes, clocks and the store, no
limit is passed, no money is spent twice, and nothing stays behind."""

from __future__ import annotations

import asyncio
import copy
from bisect import insort
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import QuotaExhausted, RateLimited
from gateway.table import Budget, Key, Limits, Tenant
from gateway.tenancy.book import Claim, Grant
from gateway.tenancy.limits import Lease
from gateway.tenancy.shared import SharedLimiter
from tests.unit.gateway.tenancy import stores
from tests.unit.gateway.tenancy.stores import Store
from tests.unit.gateway.tenancy.virtual_time import VirtualLoop

BEGINNING = 1_790_000_000.0
RPM, KEY_RPM, TPM, CONCURRENCY, BUDGET = 120, 60, 6_000, 8, 100_000
TTL = 60_000
OUTAGE = 40.0  # seconds: the store is never away for so long that it takes all for dead, nor back for too short to tell
BACK = 6.0
PROCESSES = 3
SLACK = 1e-3
KINDS = (
    Limits(rpm=RPM),
    Limits(tpm=TPM),
    Limits(concurrency=CONCURRENCY),
    Limits(rpm=10 * RPM),
    Limits(rpm=RPM, tpm=TPM, concurrency=CONCURRENCY),
)
owner: ContextVar[str] = ContextVar("owner", default="")


@dataclass(slots=True, eq=False)
class Running:
    lease: Lease
    tokens: int
    money: int
    since: float
    while_alone: bool


@dataclass(slots=True, eq=False)
class Process:
    name: str
    link: stores.Link
    clock: Any
    ahead: float = 0.0  # of its clock
    limiter: Any = None
    running: list[Running] = field(default_factory=list[Running])


class Replicas(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.loop = self.runner.get_loop()
        self.loop.set_task_factory(self.make_task)
        self.tasks: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()
        self.store = Store(self.now)
        self.processes: list[Process] = []
        self.started = 0
        self.admissions: list[tuple[float, str]] = []
        self.used: list[tuple[float, int]] = []  # tokens, when they were settled, or their process killed
        self.reserved: list[tuple[float, int]] = []  # the same tokens, when they were reserved
        self.were_alone = False
        self.away = 0.0  # seconds
        self.spent = 0  # by requests that have ended
        self.charged = 0  # at most what the killed ones' requests had spent
        self.killed = False
        self.saved = self.store.copy()
        self.was_lost, self.lost_at = False, 0.0
        self.alerts: list[int] = []
        self.refusals = 0
        self.troubles: list[BaseException] = []

    def now(self) -> float:
        return BEGINNING + self.loop.time()

    # Life

    @initialize(limits=st.sampled_from(KINDS), has_budget=st.booleans())
    def all_start(self, limits: Limits, has_budget: bool) -> None:
        budget = Budget(nanousd=BUDGET, per="total", on_exceed="reject") if has_budget else None
        self.tenant = Tenant("support", None, limits, budget, 1.0, "standard")
        self.keys = (
            Key("whole", sha256(b"whole").digest(), self.tenant),
            Key("half", sha256(b"half").digest(), self.tenant, limits=Limits(rpm=KEY_RPM)),
        )
        for _ in range(PROCESSES):
            self.start()
        self.pass_time(1.0)

    def start(self) -> None:
        self.started += 1
        process = Process(f"p{self.started}", self.store.link(), None)
        process.clock = lambda: self.now() + process.ahead

        async def make() -> None:
            owner.set(process.name)
            process.limiter = SharedLimiter(
                process.link,
                process.name,
                lambda _, percent, __: self.alerts.append(percent),
                PROCESSES,
                TTL,
                process.clock,
            )
            asyncio.get_running_loop().create_task(process.limiter.run())

        self.runner.run(make(), context=copy_context())
        self.processes.append(process)

    def make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        self.tasks[task] = owner.get()
        return task

    def pass_time(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))
        if self.store.weather == stores.FINE:
            self.away = max(0.0, self.away - OUTAGE / BACK * seconds)
        else:
            self.away += seconds

    async def ask(self, process: Process, key: Key, tokens: int, money: int, brief: bool) -> None:
        limiter = process.limiter
        try:
            lease = limiter.admit(key, "", tokens, money, process.clock())
            if lease is None:
                async with asyncio.timeout(5.0):
                    lease = await limiter.wait(key, "", tokens, money)
        except (RateLimited, QuotaExhausted):
            self.refusals += 1
            return
        one = Running(lease, tokens, money, self.now(), limiter.is_alone)
        process.running.append(one)
        self.admissions.append((self.now(), key.id))
        self.within_limits()
        if brief:
            process.running.remove(one)
            self.settle(process, one, 1.0)

    # What happens

    @rule(
        at=st.integers(0, PROCESSES - 1),
        key=st.integers(0, 1),
        count=st.sampled_from((1, 5, 40, 150)),
        tokens=st.sampled_from((0, 10, 100, 1_500)),
        money=st.sampled_from((0, 10, 1_000, 9_000)),
        brief=st.booleans(),
    )
    def requests_come(self, at: int, key: int, count: int, tokens: int, money: int, brief: bool) -> None:
        process = self.processes[at]

        async def come() -> None:
            owner.set(process.name)
            tasks = [asyncio.create_task(self.ask(process, self.keys[key], tokens, money, brief)) for _ in range(count)]
            done = await asyncio.wait(tasks, timeout=0.0005)
            for task in done[0]:
                task.result()
            for task in done[1]:
                task.add_done_callback(self.ended)

        self.runner.run(come())

    def ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.troubles.append(error)

    @rule(at=st.integers(0, PROCESSES - 1), share=st.floats(0, 1), most=st.integers(1, 10))
    def requests_end(self, at: int, share: float, most: int) -> None:
        process = self.processes[at]
        self.end(process, share, most)

    def end(self, process: Process, share: float, most: int | None = None) -> None:
        async def end() -> None:
            owner.set(process.name)
            for one in process.running[:most]:
                self.settle(process, one, share)

        self.runner.run(end())
        del process.running[:most]

    def settle(self, process: Process, one: Running, share: float) -> None:
        tokens, cost = int(one.tokens * share), int(one.money * share)
        for _ in range(2):  # the second time counts for nothing
            one.lease.settle(tokens, cost, process.clock())
        self.count(one, tokens)
        self.spent += cost

    def count(self, one: Running, tokens: int) -> None:
        self.used.append((self.now(), tokens))
        insort(self.reserved, (one.since, tokens))

    @rule(at=st.integers(0, PROCESSES - 1), more=st.sampled_from((10, 3_000)))
    def a_request_needs_more_money(self, at: int, more: int) -> None:
        process = self.processes[at]
        if not process.running:
            return

        async def ask() -> None:
            owner.set(process.name)
            one = process.running[0]
            if one.lease.extend(one.money + more):
                one.money += more

        self.runner.run(ask())

    @rule(seconds=st.sampled_from((0.0005, 0.002, 0.02, 0.3, 1.0, 4.0, 15.0, 31.0)))
    def time_passes(self, seconds: float) -> None:
        if self.away + seconds > OUTAGE:
            self.store.weather = stores.FINE
        self.pass_time(seconds)

    @rule(at=st.integers(0, PROCESSES - 1))
    def a_client_leaves_while_it_waits(self, at: int) -> None:
        process = self.processes[at]

        async def leave() -> None:
            owner.set(process.name)
            task = asyncio.create_task(self.ask(process, self.keys[0], 10, 10, False))
            await asyncio.sleep(0.0015)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.runner.run(leave())

    @precondition(lambda self: self.now() > self.lost_at + BACK)
    @rule(at=st.integers(0, PROCESSES - 1))
    def a_process_is_killed(self, at: int) -> None:
        if self.processes[at].limiter.is_alone:  # what it has admitted by itself, nobody would ever hear of
            return
        process = self.processes.pop(at)
        process.link.weather = stores.LOST

        async def kill() -> None:
            for task, name in list(self.tasks.items()):
                if name == process.name:
                    task.cancel()
            await asyncio.sleep(0)

        self.runner.run(kill())
        self.killed = True
        for one in process.running:  # it may have used all of what it had reserved
            self.count(one, one.tokens)
            self.charged += one.money
        self.start()

    @precondition(lambda self: self.away == 0.0)
    @rule(weather=st.sampled_from(stores.WEATHER))
    def the_weather_changes(self, weather: str) -> None:
        self.store.weather = weather

    @rule()
    def the_weather_is_fine(self) -> None:
        self.store.weather = stores.FINE

    @precondition(lambda self: self.away == 0.0)
    @rule()
    def the_store_is_copied(self) -> None:
        self.saved = self.store.copy()

    @precondition(lambda self: self.away == 0.0 and not self.killed)
    @rule(loses_all=st.booleans())
    def the_store_dies_and_comes_back(self, loses_all: bool) -> None:
        """With nothing, or as it was at some time before. (What the dead held is lost with it, so nobody is killed
        before, nor right after.)"""
        self.store.weather = stores.AWAY
        self.pass_time(2.0)
        if loses_all:
            self.store.forget()
        else:
            self.store.books = copy.deepcopy(self.saved)
        self.store.weather = stores.FINE
        self.was_lost, self.lost_at = True, self.now()

    @precondition(lambda self: not any(process.limiter.is_alone for process in self.processes))
    @rule(at=st.integers(0, PROCESSES - 1), seconds=st.sampled_from((-90.0, -1.0, 0.5, 30.0, 90.0)))
    def a_clock_is_set(self, at: int, seconds: float) -> None:
        self.processes[at].ahead += seconds

    # What has to hold

    @invariant()
    def within_limits(self) -> None:
        assert not self.troubles, self.troubles
        limits = self.tenant.limits
        if limits.rpm is not None:
            bounded([(moment, 1) for moment, _ in self.admissions], limits.rpm)
        bounded([(moment, 1) for moment, key in self.admissions if key == "half"], KEY_RPM)
        if limits.tpm is not None:
            # What is reserved does not drain; but how much that is of the others nobody knows who is alone.
            self.were_alone = self.were_alone or any(process.limiter.is_alone for process in self.processes)
            bounded(self.reserved if self.were_alone else self.used, limits.tpm)
        running = [one for process in self.processes for one in process.running]
        # While they can not ask each other, each has a part of what was free when it last could.
        alone = any(one.while_alone for one in running)
        if limits.concurrency is not None:
            assert len(running) <= limits.concurrency * (1.8 if alone else 1)
        if self.tenant.budget is not None:
            assert self.spent + self.charged + sum(one.money for one in running) <= BUDGET

    @invariant()
    def each_alert_is_told_once(self) -> None:
        assert self.was_lost or len(self.alerts) == len(set(self.alerts))

    def teardown(self) -> None:
        try:
            if self.processes:
                self.all_is_given_back()
        finally:
            self.runner.close()

    def all_is_given_back(self) -> None:
        self.store.weather = stores.FINE
        self.pass_time(5.0)
        for process in self.processes:
            self.end(process, 1.0)
        assert not any(process.limiter.is_alone for process in self.processes)
        self.pass_time(TTL / 1_000 + 1.0)
        accounts = [("tenant", self.tenant.limits), ("key:half", self.keys[1].limits)]
        if self.tenant.budget is not None:
            accounts.append(("budget:total", Limits()))
        for name, limits in accounts:
            self.look(1, name, limits)  # what the dead held is charged when somebody looks
        self.pass_time(300.0)
        for name, limits in accounts:
            grant = self.look(2, name, limits)
            assert max(grant.requests_total, grant.tokens_total, grant.places_total, grant.money_total) == 0, grant
            if not name.startswith("budget"):
                assert max(grant.requests_level, grant.tokens_level) == 0
            else:
                assert self.spent + self.charged <= grant.money_spent <= BUDGET
                assert self.killed or grant.money_spent == self.spent
        self.within_limits()

    def look(self, seq: int, name: str, limits: Limits) -> Grant:
        """What the books say to somebody who wants nothing."""
        claim = Claim(
            *(0, none(limits.rpm), 0, 0, 0, 0, 0, none(limits.tpm), 0, 0, 0, 0, 0, none(limits.concurrency), 0, 0),
            *((BUDGET, 1) if name.startswith("budget") else (-1, 0)),
            *(0, 0, 0, 0, 0, 0, 0, 0, -1),
        )
        return self.store.books.claim("support", "auditor", seq, 1, [name], [claim], [], int(self.now() * 1_000))[0]


def none(limit: int | None) -> int:
    return -1 if limit is None else limit


def bounded(uses: list[tuple[float, int]], limit: int) -> None:
    """No span of time that ends now has seen more than a full minute's worth and what has come since."""
    last, total = uses[-1][0] if uses else 0.0, 0
    for moment, amount in reversed(uses):
        total += amount
        assert total <= limit + (last - moment) * limit / 60 + SLACK, f"{total} in {last - moment:.3f} s"


Replicas.TestCase.settings = settings(
    deadline=None, max_examples=40, stateful_step_count=40, report_multiple_bugs=False
)
TestReplicas = Replicas.TestCase
