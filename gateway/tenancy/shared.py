"""Admission by one of several processes that share their tenants' accounts in one store.

The hot path is that of `limiter.py`: it takes from what the process holds, and asks nobody. What differs is how the
books are asked, for they are a network away: claims of one turn of the event loop go together, one at a time for each
tenant; a request that needs more than is held waits for the answer; more is fetched before it is needed.

While the store is away each process goes on by itself, with books of its own: with its part of every limit of
requests, tokens and places (`Allotment.alone`), and with the money it holds already. What was used is told when the
store is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any

from gateway.errors import GatewayError
from gateway.state.redis import FAILURES
from gateway.table import Key, Limits, Tenant
from gateway.tenancy import refusals
from gateway.tenancy.allotment import PLACES_PAUSE, Allotment
from gateway.tenancy.book import Books
from gateway.tenancy.far import Far, call, fit, grants_of
from gateway.tenancy.limiter import Clock, MemoryLimiter, OnAlert, TenantLease, refusal
from gateway.tenancy.limits import UNLIMITED, Lease, LimiterState
from gateway.tenancy.purse import Demanded, Errand, Purse, Scopes

logger = logging.getLogger("tollgate.limits")

PATIENCE_SECONDS = 0.5  # for an answer of the store
LATENESS_SECONDS = 0.05  # a timeout that fires this late says more about this process than about the store
ATTEMPTS = 3  # of a claim that was late through the process's own fault
TTL = 60_000  # milliseconds without a claim after which the store takes this process for dead
HEARTBEAT = 10_000  # milliseconds between claims of a tenant whose requests run on
NEWS = 250  # milliseconds after which the store is to hear of what was used
AGAIN = 20  # milliseconds between claims that nobody waits for
REFUSED = 25  # milliseconds for which a refusal is repeated without asking anew
PRESENCE_SECONDS = 1.0  # also how long it takes at most to notice that the store has forgotten all
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 1.0
REUNION = 3_000  # milliseconds after which all others have noticed that the store is back, and told what they used
CLOSE_SECONDS = 1.0

MAX_WAITING = 4_096  # requests, of all tenants
DEMANDS_PER_CLAIM = 256
ERRANDS_PER_TRIP = 64
MAX_TRIPS = 4  # at once


class Waiter:
    """A request that waits for the store's answer. `left` is set when nobody waits any more."""

    __slots__ = ("demanded", "future", "left")

    def __init__(self, demanded: Demanded, future: asyncio.Future[Lease]) -> None:
        self.demanded = demanded
        self.future = future
        self.left = False


class SharedLimiter(MemoryLimiter):
    """To be used inside a running event loop. `holder` names this process among all that share the store, and no other
    before or after it; `processes` is how many there are at least."""

    def __init__(
        self,
        far: Far,
        holder: str,
        on_alert: OnAlert,
        processes: int = 1,
        ttl: int = TTL,
        clock: Clock = time.time,
        store: str = "redis",
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        super().__init__(on_alert, clock)
        self._patience = patience
        self.is_alone = False
        self._is_introduced = self._is_known = False  # to the store
        self._alone_since = 0
        self._has_all_places = False
        self.sharing = processes
        self._processes = processes
        self._far = far
        self._holder = holder
        self._ttl = ttl
        self._store = store
        self._lines: dict[str, deque[Waiter]] = {}
        self._asked: dict[str, list[Waiter]] = {}  # whose demands are on their way
        self._waiting = 0
        self._wishes: dict[str, dict[TenantLease, int]] = {}  # how much money requests under way would like in all
        self._due: dict[str, Purse] = {}
        self._is_flushing = False
        self._loop: asyncio.AbstractEventLoop | None = None  # the first that asked for a claim, and the only one
        self._trips = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # Admission

    def _beyond(self, scopes: Scopes, tokens: int, money: int, clock: int) -> Lease | None:
        if self.is_alone:
            return super()._beyond(scopes, tokens, money, clock)
        if scopes.is_refused(tokens, money, clock) and not scopes.fits(tokens, money, clock):
            raise self._refusal(scopes, tokens, money, clock)
        return None

    async def wait(self, key: Key, model: str, tokens: int, money: int) -> Lease:
        scopes = self._scopes_of(key, model)
        if scopes is None:
            return UNLIMITED
        if self.is_alone or self._waiting >= MAX_WAITING:
            return self._by_itself(scopes, tokens, money)
        purse = scopes.purse
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        waiter = Waiter(Demanded(scopes, 1, tokens, money), future)
        line = self._lines.get(purse.name)
        if line is None:
            line = self._lines[purse.name] = deque()
        line.append(waiter)
        purse.waiting += 1
        self._waiting += 1
        self._soon(purse)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().settle(0, 0, self._clock())  # it came together with the end of the wait
            raise
        finally:
            self._leaves(waiter)

    def _by_itself(self, scopes: Scopes, tokens: int, money: int) -> Lease:
        clock = int(self._clock() * 1_000)
        if not self.is_alone:
            raise refusals.too_many_waiting(scopes.whose[0])
        if scopes.fits(tokens, money, clock):
            return self._take(scopes, tokens, money, clock)
        lease = super()._beyond(scopes, tokens, money, clock)
        assert lease is not None
        return lease

    def _leaves(self, waiter: Waiter) -> None:
        if not waiter.left:
            waiter.left = True
            waiter.demanded.scopes.purse.waiting -= 1
            self._waiting -= 1

    def _maintain(self, scopes: Scopes, clock: int) -> None:
        purse = scopes.purse
        if self.is_alone:
            super()._maintain(scopes, clock)
        elif not purse.busy and clock - purse.claimed_at >= AGAIN:
            for allotment in scopes.allotments:
                if allotment.is_low():
                    self._soon(purse)
                    return

    def _consult(self, purse: Purse, demands: list[Demanded], clock: int) -> None:
        """Only while alone: the books are this process's own, and the money is only what it holds already."""
        self._ask(purse.compose(demands, clock, keep=False, near=True), clock, near=True)

    def _refusal(self, scopes: Scopes, tokens: int, money: int, clock: int) -> GatewayError:
        if self.is_alone:
            for allotment, whose in zip(scopes.allotments, scopes.whose, strict=True):
                budget = allotment.budget
                if budget is not None and budget.on_exceed == "reject" and not allotment.affords(money):
                    if allotment.money_seen + money <= budget.nanousd:
                        return refusals.money_unconfirmed(whose)
        return refusal(scopes, tokens, money, clock)

    def ended(self, scopes: Scopes) -> None:
        """A place that comes free is given back at once where it is one of few: its next request may come elsewhere."""
        if self.is_alone:
            return
        for allotment in scopes.allotments:
            if allotment.hoards():
                self._soon(scopes.purse)
                return

    def _more_money(self, lease: TenantLease, money: int) -> bool:
        if not self.is_alone:
            purse = lease.scopes.purse
            self._wishes.setdefault(purse.name, {})[lease] = money
            self._soon(purse)
        return False

    def tick(self, now: float) -> None:
        clock = int(now * 1_000)
        if self.is_alone:
            if not self._has_all_places and clock - self._alone_since >= PLACES_PAUSE:
                self._has_all_places = True
                for purse in self._purses.values():
                    for allotment in purse.allotments.values():
                        allotment.all_places()
            super().tick(now)
            return
        for name, purse in list(self._active.items()):
            age = clock - purse.claimed_at
            if purse.busy:
                continue
            if age >= HEARTBEAT or age < 0:
                for allotment in purse.allotments.values():
                    if allotment.places_inuse:
                        purse.touched[allotment.name] = allotment
            if purse.touched:
                if age >= NEWS or age < 0:
                    self._soon(purse)
            elif purse.is_idle():
                self._rest(name)

    def _in_effect(self, purse: Purse, allotment: Allotment, limits: Limits) -> Limits:
        changed = allotment.rewrite(limits)
        if changed and not self.is_alone:
            purse.touched[allotment.name] = allotment
        if self.is_alone and not allotment.is_alone:
            self._set_apart(purse, allotment, self._alone_since)
        elif self.is_alone and changed:
            self._set_apart(purse, allotment, int(self._clock() * 1_000))
        return allotment.limits if self.is_alone else limits

    def inquire(self, tenant: Tenant, sure: int) -> None:
        if not self.is_alone:
            super().inquire(tenant, sure)

    @property
    def state(self) -> LimiterState:
        return LimiterState(self._store, self.is_alone, self.sharing, self._waiting)

    # Claims

    def _soon(self, purse: Purse) -> None:
        """Its claim goes with the others at the end of this turn of the loop."""
        self._due[purse.name] = self._active[purse.name] = purse
        if not self._is_flushing:
            self._is_flushing = True
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        if self.is_alone or self._closed:
            return
        if not self._is_known:  # it says who it is before it asks for anything
            if not self._is_introduced:
                self._is_introduced = True
                self._start(self._tell_presence())
            return
        now = int(self._clock() * 1_000)
        while self._trips < MAX_TRIPS:
            errands: list[Errand] = []
            for name, purse in list(self._due.items()):
                if len(errands) == ERRANDS_PER_TRIP:
                    break
                if not purse.busy:  # else it is due again when it has its answer
                    del self._due[name]
                    errands.append(self._errand(purse, now))
            if not errands:
                return
            self._trips += 1
            self._start(self._carry(errands))

    def _errand(self, purse: Purse, now: int) -> Errand:
        demands = [
            Demanded(lease.scopes, 0, 0, money - lease.money)
            for lease, money in self._wishes.get(purse.name, {}).items()
            if lease.is_open and money > lease.money
        ]
        line = self._lines.get(purse.name)
        if line is not None:
            asked = self._asked[purse.name] = []
            while line and len(demands) < DEMANDS_PER_CLAIM:
                waiter = line.popleft()
                if not waiter.left:
                    asked.append(waiter)
                    demands.append(waiter.demanded)
            if not line:
                del self._lines[purse.name]
        purse.busy = True
        return purse.compose(demands, now, keep=not demands)

    async def _carry(self, errands: list[Errand]) -> None:
        loop = asyncio.get_running_loop()
        calls = [call(one, self._holder, self._ttl) for one in errands]
        answers: list[list[int]] | None = None
        failure: BaseException | None = None
        try:
            for _ in range(ATTEMPTS):
                began = loop.time()
                try:
                    async with asyncio.timeout(self._patience):
                        answers = await self._far.claim(calls)
                    break
                except FAILURES as error:
                    failure = error
                    if loop.time() - began <= self._patience + LATENESS_SECONDS:
                        break
        finally:
            self._trips -= 1
            for one in errands:
                one.purse.busy = False
        if answers is not None and not fit(errands, answers):
            failure, answers = ConnectionError("its answer is not understood: another version wrote it"), None
        if answers is None:
            for one in errands:
                one.purse.unheard(one)
            self._lose(failure)
            return
        if self.is_alone:  # another trip has failed meanwhile; the store hears of all this again
            return
        clock = int(self._clock() * 1_000)
        for one, answer in zip(errands, answers, strict=True):
            self._answered(one, answer, clock)
        if self._due:
            self._soon(next(iter(self._due.values())))

    def _answered(self, errand: Errand, answer: list[int], clock: int) -> None:
        purse = errand.purse
        asked = self._asked.pop(purse.name, None)
        if answer[1]:  # overtaken by its own repetition, which the store has answered to nobody
            purse.unheard(errand)
            if asked:
                self._lines.setdefault(purse.name, deque()).extendleft(reversed(asked))
            self._soon(purse)
            return
        grants = grants_of(answer)
        purse.hear(errand, grants, clock)
        self._alert(purse, grants)
        for lease, money in self._wishes.pop(purse.name, {}).items():
            if lease.is_open:
                self.extend(lease, money, ask=False)
        for waiter in asked or ():
            self._serve(waiter, clock)
        if purse.name in self._lines:
            self._soon(purse)

    def _serve(self, waiter: Waiter, clock: int) -> None:
        if waiter.left or waiter.future.done():
            return
        scopes, _, tokens, money = waiter.demanded
        self._leaves(waiter)
        if scopes.fits(tokens, money, clock):
            waiter.future.set_result(self._take(scopes, tokens, money, clock))
            return
        error = self._refusal(scopes, tokens, money, clock)
        wait = REFUSED if error.retry_after is None else min(REFUSED, int(error.retry_after * 1_000))
        scopes.refuse(tokens, money, clock + wait)
        waiter.future.set_exception(error)

    # The store's going and coming

    def _lose(self, error: BaseException | None) -> None:
        if self.is_alone or self._closed:
            return
        self.is_alone = True
        self._has_all_places = False
        self._alone_since = clock = int(self._clock() * 1_000)
        fields = {"error": str(error) or type(error).__name__, "processes": self.sharing}
        logger.warning("limits are kept by this process alone: their store is away", extra={"fields": fields})
        self._books = Books()
        self._due.clear()
        self._wishes.clear()
        for purse in self._purses.values():
            purse.claimed_at = 0
            for allotment in purse.allotments.values():
                self._set_apart(purse, allotment, clock)
                if allotment.places_inuse:
                    purse.touched[allotment.name] = allotment
        self._serve_all_alone()
        self._start(self._recover())

    def _set_apart(self, purse: Purse, allotment: Allotment, since: int) -> None:
        requests, tokens = allotment.alone(self.sharing, since)
        self._books.begin(purse.name, allotment.name, requests, tokens, since)
        if self._has_all_places:
            allotment.all_places()

    def _serve_all_alone(self) -> None:
        """Nobody waits for the store any more."""
        waiters = [waiter for asked in self._asked.values() for waiter in asked]
        waiters += [waiter for line in self._lines.values() for waiter in line]
        self._asked, self._lines = {}, {}
        for waiter in waiters:
            self._serve_alone(waiter)

    def _serve_alone(self, waiter: Waiter) -> None:
        if waiter.left or waiter.future.done():
            return
        scopes, _, tokens, money = waiter.demanded
        self._leaves(waiter)
        try:
            waiter.future.set_result(self._by_itself(scopes, tokens, money))
        except GatewayError as error:
            waiter.future.set_exception(error)

    async def _recover(self) -> None:
        """Looks for the store until it is there, tells it all, and stays alone until all others have done the same."""
        pause = FIRST_RETRY_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(self._patience):
                    presence = await self._far.present(self._holder, well=False)
                self.sharing = max(self._processes, presence.processes)
                self._is_known = True
                await self._tell_all()
                break
            except FAILURES:
                pause = min(2 * pause, LAST_RETRY_SECONDS)
        await asyncio.sleep(REUNION / 1_000)
        self.is_alone = False
        logger.info("limits are shared again: their store is back")
        for purse in self._purses.values():
            purse.claimed_at = 0
            for allotment in purse.allotments.values():
                allotment.together()
                purse.touched[allotment.name] = allotment  # what was kept for it can go
            if purse.touched:
                self._soon(purse)

    async def _tell_all(self) -> None:
        """Raises one of FAILURES when the store did not hear all of it."""
        purses = [purse for purse in self._purses.values() if purse.allotments]
        for at in range(0, len(purses), ERRANDS_PER_TRIP):
            now = int(self._clock() * 1_000)
            errands = [purse.tell(now + REUNION, now) for purse in purses[at : at + ERRANDS_PER_TRIP]]
            async with asyncio.timeout(self._patience):
                answers = await self._far.claim([call(one, self._holder, self._ttl) for one in errands])
            if not fit(errands, answers):
                raise ConnectionError("its answer is not understood: another version wrote it")
            for one, answer in zip(errands, answers, strict=True):
                grants = grants_of(answer)
                for allotment, claim, grant in zip(one.allotments, one.claims, grants, strict=False):
                    allotment.told(claim, grant, now)
                self._alert(one.purse, grants)

    async def run(self) -> None:
        """For as long as the process serves."""
        told = 0.0
        while True:
            await asyncio.sleep(self.every)
            self.tick(self._clock())
            now = asyncio.get_running_loop().time()
            if not self.is_alone and now - told >= PRESENCE_SECONDS:
                told, self._is_introduced = now, True
                self._start(self._tell_presence())

    async def _tell_presence(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                presence = await self._far.present(self._holder)
        except FAILURES as error:
            self._lose(error)
            return
        self.sharing = max(self._processes, presence.processes)
        if self._is_known and not presence.is_known:
            self._lose(ConnectionError("it has forgotten this process, and what the others hold"))
        elif not self._is_known and not presence.has_company:
            self._lose(ConnectionError("the other processes have yet to come back to it"))
        self._is_known = True
        self._flush()

    async def close(self) -> None:
        """Gives back what is held and says what was used, for a moment."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._serve_all_alone()
        now = int(self._clock() * 1_000)
        errands: list[Errand] = []
        if not self.is_alone:
            for purse in self._purses.values():
                for allotment in purse.allotments.values():
                    if allotment.view is not None or allotment.has_news():
                        purse.touched[allotment.name] = allotment
                if purse.touched:
                    errands.append(purse.compose([], now, keep=False))
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if errands:
                    await self._far.claim([call(one, self._holder, self._ttl) for one in errands])
                await self._far.leave(self._holder)
        except FAILURES as error:
            logger.warning("limits: the last claims were not heard", extra={"fields": {"error": str(error)}})
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._far.close()
        except FAILURES:
            logger.debug("redis connections closed late", exc_info=True)

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
