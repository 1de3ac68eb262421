"""Admission by a process that shares its tenants' accounts with nobody: exact, and without waiting.

The hot path takes from what the process holds already (`allotment.py`); the books (`book.py`) are asked when that does
not do, and now and then. `shared.py` is the same for processes that share their accounts.

Limits are read from the key and the tenant as the request's own table has them. One thread (the event loop's) calls it,
and no call here waits, so the check of all limits and the taking from each are one step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Final

from gateway.errors import GatewayError, InternalError
from gateway.table import Budget, Key, Limits, Tenant
from gateway.tenancy import refusals
from gateway.tenancy.allotment import Allotment
from gateway.tenancy.book import MINUTE, Books, Grant
from gateway.tenancy.limits import UNLIMITED, Headers, Lease, LimiterState, Spent, Standing
from gateway.tenancy.purse import Demanded, Errand, Purse, Scopes
from gateway.tenancy.ratelimit_headers import REQUESTS, TOKENS, Kind

PLACE_WAIT: Final = 1_000  # when a place comes free is not known; a second is short for a person and long for a machine
TICK_SECONDS: Final = 0.1
STALE: Final = 10  # milliseconds after which the books are to hear of what was used
HERE: Final = "here"  # the only holder of books that nobody shares
NEVER: Final = 10**12  # milliseconds: it does not die before its books do

OnAlert = Callable[[str, int, int], None]  # tenant, percent of its budget, nano-USD spent
Clock = Callable[[], float]  # Unix seconds

BUDGET: Final = "budget:"
_UNLIMITED: Final = Limits()


class MemoryLimiter:
    """`on_alert` is called once per period for each of 50, 80 and 100 percent of a budget."""

    def __init__(self, on_alert: OnAlert, clock: Clock = time.time) -> None:
        self.every = TICK_SECONDS
        self._clock = clock
        self._on_alert = on_alert
        self._books = Books()
        self._purses: dict[str, Purse] = {}
        self._active: dict[str, Purse] = {}
        self._scopes: dict[bytes, dict[str, Scopes]] = {}
        self._tenants: Mapping[str, Tenant] | None = None

    # Admission

    def admit(self, key: Key, model: str, tokens: int, money: int, now: float) -> Lease | None:
        scopes = self._scopes_of(key, model)
        if scopes is None:
            return UNLIMITED
        clock = int(now * 1_000)
        self._maintain(scopes, clock)
        if scopes.purse.waiting == 0 and scopes.fits(tokens, money, clock):
            return self._take(scopes, tokens, money, clock)
        return self._beyond(scopes, tokens, money, clock)

    async def wait(self, key: Key, model: str, tokens: int, money: int) -> Lease:
        lease = self.admit(key, model, tokens, money, self._clock())
        if lease is None:
            raise InternalError("The gateway's limiter has no answer.")
        return lease

    def _take(self, scopes: Scopes, tokens: int, money: int, clock: int) -> TenantLease:
        scopes.take(tokens, money, clock)
        self._active[scopes.purse.name] = scopes.purse
        return TenantLease(self, scopes, tokens, money, _headers(scopes.allotments, clock))

    def _beyond(self, scopes: Scopes, tokens: int, money: int, clock: int) -> Lease | None:
        """What the process holds does not do: the books are asked."""
        self._consult(scopes.purse, [Demanded(scopes, 1, tokens, money)], clock)
        if not scopes.fits(tokens, money, clock):
            raise self._refusal(scopes, tokens, money, clock)
        return self._take(scopes, tokens, money, clock)

    def _maintain(self, scopes: Scopes, clock: int) -> None:
        """Before a request is admitted from what is held; after it, what is cancelled at once would be told already."""
        if clock - scopes.purse.claimed_at >= STALE:
            self._consult(scopes.purse, [], clock)

    def _consult(self, purse: Purse, demands: list[Demanded], clock: int) -> None:
        self._ask(purse.compose(demands, clock, keep=False), clock)

    def _ask(self, errand: Errand, clock: int, *, near: bool = False) -> None:
        names = [allotment.name for allotment in errand.allotments]
        grants = self._books.claim(
            errand.purse.name, HERE, errand.seq, NEVER, names, errand.claims, errand.demands, clock
        )
        errand.purse.hear(errand, grants, clock, near=near)
        self._alert(errand.purse, grants)

    def _alert(self, purse: Purse, grants: list[Grant]) -> None:
        for grant in grants:
            if grant.money_alert:
                self._on_alert(purse.name, grant.money_alert, grant.money_spent)

    def _refusal(self, scopes: Scopes, tokens: int, money: int, clock: int) -> GatewayError:
        return refusal(scopes, tokens, money, clock)

    def ended(self, scopes: Scopes) -> None:
        """A lease of theirs is over."""

    # While a request is under way

    def extend(self, lease: TenantLease, money: int, *, ask: bool = True) -> bool:
        more = money - lease.money
        if more <= 0:
            return True
        for allotment in lease.scopes.allotments:
            if allotment.budget is None:
                continue
            if allotment.money_period != lease.period:
                return True  # the period it is paid from is over
            if allotment.more_money(more):
                lease.money = money
                lease.scopes.purse.touched[allotment.name] = allotment
                return True
            return ask and self._more_money(lease, money)
        return True

    def _more_money(self, lease: TenantLease, money: int) -> bool:
        """Asks the books for it; False when it is not there at once."""
        demanded = Demanded(lease.scopes, 0, 0, money - lease.money)
        self._consult(lease.scopes.purse, [demanded], int(self._clock() * 1_000))
        return self.extend(lease, money, ask=False)

    def tick(self, now: float) -> None:
        """To be called a few times a second: what was used is told to the books, what is not needed is given back."""
        clock = int(now * 1_000)
        for name, purse in list(self._active.items()):
            if purse.touched:
                self._consult(purse, [], clock)
            elif purse.is_idle():
                self._rest(name)

    def _rest(self, tenant: str) -> None:
        """Nothing of it runs, and the books know it all."""
        del self._active[tenant]
        if self._tenants is not None and tenant not in self._tenants:
            self._forget(tenant)

    async def run(self) -> None:
        """For as long as the process serves."""
        while True:
            await asyncio.sleep(self.every)
            self.tick(self._clock())

    async def close(self) -> None:
        """Nobody else needs to know."""

    # Looking on

    @property
    def state(self) -> LimiterState:
        return LimiterState("memory", False, 1, 0)

    def headers(self, key: Key, now: float) -> Headers:
        scopes = self._scopes_of(key, "")
        return [] if scopes is None else _headers(scopes.allotments, int(now * 1_000))

    def standings(self, tenant: Tenant, now: float) -> list[Standing]:
        purse = self._purses.get(tenant.name)
        if purse is None:
            return []
        in_effect = [
            one for one in purse.allotments.values() if one.budget is not None or not one.name.startswith(BUDGET)
        ]
        return [_standing(one, int(now * 1_000)) for one in in_effect]

    # The configuration and the ledger

    def seed(self, tenant: Tenant, period_start: int, spent: int) -> None:
        if tenant.budget is None:
            return
        allotment = self._purse(tenant.name).account(budget_account(tenant.budget))
        allotment.seed_period, allotment.seed = period_start, spent
        if allotment.money_period == period_start:
            allotment.money_seen = max(allotment.money_seen, spent)

    def knows(self, tenant: Tenant, period_start: int) -> bool:
        purse = self._purses.get(tenant.name)
        if purse is None or tenant.budget is None:
            return False
        allotment = purse.allotments.get(budget_account(tenant.budget))
        if allotment is None:
            return False
        is_current = allotment.budget is not None and allotment.money_period == period_start
        return is_current or allotment.seed_period == period_start

    def spent(self, tenant: Tenant, period_start: int) -> Spent | None:
        purse = self._purses.get(tenant.name)
        if purse is None or tenant.budget is None:
            return None
        allotment = purse.allotments.get(budget_account(tenant.budget))
        if allotment is None or allotment.budget is None or allotment.is_alone:
            return None
        view = allotment.view
        if view is None or not (allotment.money_period == view.money_period == period_start):
            return None
        return Spent(view.money_spent, allotment.is_settled())

    def inquire(self, tenant: Tenant, sure: int) -> None:
        if tenant.budget is None:
            return
        purse = self._purse(tenant.name)
        allotment = purse.account(budget_account(tenant.budget))
        allotment.budget, allotment.money_sure = tenant.budget, sure
        purse.touched[allotment.name] = allotment
        self._active[tenant.name] = purse

    def retain(self, tenants: Mapping[str, Tenant]) -> None:
        self._tenants = tenants
        self._scopes.clear()  # built anew from the keys that requests come with
        for name, purse in self._purses.items():
            tenant = tenants.get(name)
            if tenant is None:
                self._active[name] = purse  # until nothing of it runs
                continue
            in_effect = "" if tenant.budget is None else budget_account(tenant.budget)
            for account in purse.allotments.values():
                if account.name.startswith(BUDGET) and account.name != in_effect:
                    account.budget, account.seed_period = None, -1  # should it return, the ledger is asked again

    def _forget(self, tenant: str) -> None:
        self._purses.pop(tenant, None)
        self._books.forget(tenant)

    def _scopes_of(self, key: Key, model: str) -> Scopes | None:
        by_model = self._scopes.get(key.digest)
        if by_model is None:
            by_model = self._scopes[key.digest] = {}
        tenant = key.tenant
        if model not in tenant.model_limits:
            model = ""
        scopes = by_model.get(model)
        if scopes is None or scopes.key is not key:
            scopes = by_model[model] = self._build(key, model)
        return scopes if scopes.allotments else None

    def _build(self, key: Key, model: str) -> Scopes:
        tenant = key.tenant
        purse = self._purse(tenant.name)
        scopes = Scopes(key, purse, [], [])
        whose = _spelled(tenant)
        if tenant.budget is not None:
            self._add(scopes, budget_account(tenant.budget), _UNLIMITED, tenant.budget, whose)
        if tenant.limits != _UNLIMITED:
            self._add(scopes, "tenant", tenant.limits, None, whose)
        if key.limits != _UNLIMITED:
            self._add(scopes, f"key:{key.id}", key.limits, None, f"key `{key.id}` of {whose}")
        if model and tenant.model_limits[model] != _UNLIMITED:
            self._add(scopes, f"model:{model}", tenant.model_limits[model], None, f"{whose} for the model `{model}`")
        return scopes

    def _add(self, scopes: Scopes, name: str, limits: Limits, budget: Budget | None, whose: str) -> None:
        allotment = scopes.purse.account(name)
        allotment.limits, allotment.budget = self._in_effect(scopes.purse, allotment, limits), budget
        scopes.allotments.append(allotment)
        scopes.whose.append(whose)

    def _in_effect(self, purse: Purse, allotment: Allotment, limits: Limits) -> Limits:
        """What of the limits as written holds for this process now."""
        allotment.rewrite(limits)
        return limits

    def _purse(self, tenant: str) -> Purse:
        purse = self._purses.get(tenant)
        if purse is None:
            purse = self._purses[tenant] = Purse(tenant)
        return purse


class TenantLease(Lease):
    __slots__ = ("_limiter", "is_open", "money", "period", "scopes", "taken", "tokens")

    def __init__(self, limiter: MemoryLimiter, scopes: Scopes, tokens: int, money: int, headers: Headers) -> None:
        super().__init__(headers)
        self._limiter = limiter
        self.is_open = True
        self.scopes = scopes
        self.taken = [allotment.limits for allotment in scopes.allotments]
        self.tokens = tokens
        self.money = money
        self.period = -1
        for allotment in scopes.allotments:
            if allotment.budget is not None:
                self.period = allotment.money_period

    def extend(self, money: int) -> bool:
        return not self.is_open or self._limiter.extend(self, money)

    def covers(self, money: int) -> bool:
        return self.money >= money

    def cancel(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        purse = self.scopes.purse
        for i, allotment in enumerate(self.scopes.allotments):
            allotment.cancel(self.taken[i], self.tokens, self.money, self.period, told=purse.busy)
            purse.touched[allotment.name] = allotment
        self._limiter.ended(self.scopes)

    def settle(self, tokens: int, cost: int, now: float, arrived: float = inf) -> None:
        if not self.is_open:
            return
        self.is_open = False
        clock = int(now * 1_000)
        if arrived * 1_000 < self.period:
            cost = 0
        scopes = self.scopes
        touched = scopes.purse.touched
        taken = self.taken
        for i, allotment in enumerate(scopes.allotments):
            allotment.settle(taken[i], self.tokens, tokens, self.money, cost, self.period, clock)
            touched[allotment.name] = allotment
        self._limiter.ended(scopes)


def refusal(scopes: Scopes, tokens: int, money: int, clock: int) -> GatewayError:
    """The error of the limit that takes longest to make room: coming back earlier would meet it again."""
    worst: GatewayError | None = None
    longest = -1
    for allotment, whose in zip(scopes.allotments, scopes.whose, strict=True):
        limits, budget = allotment.limits, allotment.budget
        if budget is not None and budget.on_exceed == "reject" and not allotment.affords(money):
            spent = allotment.money_seen
            if spent < budget.nanousd and spent + money <= budget.nanousd:
                return refusals.money_in_flight(whose, PLACE_WAIT)
            return refusals.out_of_budget(whose, budget, spent, money, allotment.money_end)
        rpm, tpm, concurrency = limits.rpm, limits.tpm, limits.concurrency
        if tpm is not None and tokens > tpm:
            most = allotment.written.tpm
            if most is None or tokens > most:
                return refusals.too_large(whose, tpm if most is None else most, tokens)
            return refusals.part_too_small(whose, "tokens per min (TPM)", most, tpm, tokens)
        if rpm is not None and rpm < 1:
            return refusals.part_too_small(whose, "requests per min (RPM)", allotment.written.rpm or 0, rpm, 1)
        if rpm is not None:
            room = allotment.requests_room(clock)
            wait = _wait(room, 1, rpm)
            if wait > longest:
                longest = wait
                worst = refusals.too_fast(whose, "requests per min (RPM)", rpm, _used(rpm, room), 1, wait)
        if tpm is not None:
            room = allotment.tokens_room(clock)
            wait = _wait(room, tokens, tpm)
            if wait > longest:
                longest = wait
                worst = refusals.too_fast(whose, "tokens per min (TPM)", tpm, _used(tpm, room), tokens, wait)
        if concurrency is not None and allotment.places_free < 1:
            room = allotment.places_room()
            wait = PLACE_WAIT if room < 1 else 0
            if wait > longest:
                longest = wait
                used = concurrency - room
                worst = refusals.too_fast(whose, "requests at the same time", concurrency, used, 1, PLACE_WAIT)
    assert worst is not None
    return worst


def _wait(room: int, wanted: int, limit: int) -> int:
    """Milliseconds until so much would fit if nothing else happened."""
    excess = wanted * MINUTE - room
    return -(-excess // limit) if excess > 0 else 0


def _used(limit: int, room: int) -> int:
    return limit - (room // MINUTE if room > 0 else 0)


def _headers(allotments: list[Allotment], clock: int) -> Headers:
    """Of each kind the account that has the least left."""
    requests_limit = tokens_limit = -1
    requests_room = tokens_room = 0
    for allotment in allotments:
        rpm, tpm = allotment.limits.rpm, allotment.limits.tpm
        if rpm is not None:
            room = allotment.requests_room(clock)
            if requests_limit < 0 or room < requests_room:
                requests_limit, requests_room = rpm, room
        if tpm is not None:
            room = allotment.tokens_room(clock)
            if tokens_limit < 0 or room < tokens_room:
                tokens_limit, tokens_room = tpm, room
    headers: Headers = []
    if requests_limit >= 0:
        headers.append(_lines(REQUESTS, requests_limit, requests_room))
    if tokens_limit >= 0:
        headers.append(_lines(TOKENS, tokens_limit, tokens_room))
    return headers


def _lines(kind: Kind, limit: int, room: int) -> bytes:
    missing = limit * MINUTE - room
    reset = -(-missing // limit) if limit > 0 and missing > 0 else 0
    return kind.lines(limit, room // MINUTE if room > 0 else 0, reset)


def _standing(allotment: Allotment, clock: int) -> Standing:
    limits, budget, view = allotment.limits, allotment.budget, allotment.view
    return Standing(
        account=allotment.name,
        in_flight=allotment.places_inuse,
        requests_limit=limits.rpm,
        requests_remaining=None if limits.rpm is None else max(0, allotment.requests_room(clock) // MINUTE),
        tokens_limit=limits.tpm,
        tokens_remaining=None if limits.tpm is None else max(0, allotment.tokens_room(clock) // MINUTE),
        places_limit=limits.concurrency,
        places_remaining=None if limits.concurrency is None else allotment.places_room(),
        budget=None if budget is None else budget.nanousd,
        spent=None if budget is None else allotment.money_seen + allotment.money_used - allotment.money_acked,
        reserved=None if budget is None else allotment.money_inuse,
        processes=1 if view is None else view.sharing,
    )


def _spelled(tenant: Tenant) -> str:
    kind, _, name = tenant.name.partition(":")
    return f"the {kind} `{name}`, which all tenants share" if name else f"tenant `{tenant.name}`"


def budget_account(budget: Budget) -> str:
    """A budget has an account of its own, and a new one when its kind of period changes: periods only go forward."""
    return f"{BUDGET}{budget.per}"
