"""Admission for one process: every tenant's account in memory, exact, and kept across changes of configuration.

Limits are read from the tenant as the request's own table has it, the account only holds what was used. One thread (the
event loop's) calls it, and no call waits, so the check of all limits and the taking from each are one step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from gateway.errors import GatewayError
from gateway.table import Budget, Tenant
from gateway.tenancy import gcra, refusals
from gateway.tenancy.limits import UNLIMITED, Headers, Lease, Usage
from gateway.tenancy.ratelimit_headers import triple
from gateway.tenancy.refusals import SECOND
from gateway.tenancy.spending import Spending
from gateway.tenancy.token_meter import TokenMeter

PLACE_WAIT = SECOND  # when a place comes free is not knowable; a second is short for a person and long for a machine

OnOverrun = Callable[[Tenant, int], None]


@dataclass(slots=True)
class _Account:
    in_flight: int = 0
    tat: int = 0
    tokens: TokenMeter = field(default_factory=TokenMeter)
    spending: Spending = field(default_factory=Spending)


class MemoryLimiter:
    """`on_overrun(tenant, spent)` is called once per period when a budget that only warns has been used up."""

    def __init__(self, on_overrun: OnOverrun) -> None:
        self._accounts: dict[str, _Account] = {}
        self._on_overrun = on_overrun

    def admit(self, tenant: Tenant, key_id: str, estimated_tokens: int, estimated_cost: int, now: float) -> Lease:
        limits = tenant.limits
        rpm, tpm, concurrency, budget = limits.rpm, limits.tpm, limits.concurrency, tenant.budget
        if rpm is None and tpm is None and concurrency is None and budget is None:
            return UNLIMITED
        account = self._account(tenant.name)
        clock = int(now * SECOND)

        spending = account.spending
        if budget is not None:
            spending.enter(budget.per, now)
            if budget.on_exceed == "reject" and not spending.affords(estimated_cost, budget.nanousd):
                raise _no_money(tenant, budget, spending, estimated_cost)
        if (
            (rpm is not None and gcra.wait(account.tat, rpm, clock))
            or (tpm is not None and account.tokens.wait(estimated_tokens, tpm, clock))
            or (concurrency is not None and account.in_flight >= concurrency)
        ):
            raise _no_room(tenant, account, estimated_tokens, clock)

        account.in_flight += 1
        if rpm is not None:
            account.tat = gcra.advance(account.tat, rpm, clock)
        if tpm is not None:
            account.tokens.reserve(estimated_tokens)
        if budget is not None:
            spending.reserved += estimated_cost
            if budget.on_exceed == "warn":
                self.tell_overrun(tenant, budget, spending)
        return _MemoryLease(
            self,
            tenant,
            account,
            estimated_tokens if tpm is not None else None,
            estimated_cost if budget is not None else 0,
            now,
            _headers(tenant, account, clock),
        )

    def headers(self, tenant: Tenant, now: float) -> Headers:
        return _headers(tenant, self._account(tenant.name), int(now * SECOND))

    def usage(self, tenant: Tenant, now: float) -> Usage:
        account = self._account(tenant.name)
        clock = int(now * SECOND)
        rpm, tpm, budget = tenant.limits.rpm, tenant.limits.tpm, tenant.budget
        if budget is not None:
            account.spending.enter(budget.per, now)
        return Usage(
            in_flight=account.in_flight,
            requests_remaining=None if rpm is None else gcra.remaining(account.tat, rpm, clock),
            tokens_remaining=None if tpm is None else account.tokens.remaining(tpm, clock),
            tokens_reserved=account.tokens.reserved,
            spent=None if budget is None else account.spending.spent,
            cost_reserved=account.spending.reserved,
        )

    def seed(self, tenant: str, period_start: float, spent: int) -> None:
        self._account(tenant).spending.seed(period_start, spent)

    def knows(self, tenant: str, period_start: float) -> bool:
        account = self._accounts.get(tenant)
        return account is not None and account.spending.knows(period_start)

    def retain(self, tenants: Collection[str]) -> None:
        gone = [name for name, account in self._accounts.items() if name not in tenants and account.in_flight == 0]
        for name in gone:
            del self._accounts[name]

    def tell_overrun(self, tenant: Tenant, budget: Budget, spending: Spending) -> None:
        """Call `on_overrun` once per period when this budget, which only warns, is used up."""
        if spending.spent >= budget.nanousd and not spending.reported:
            spending.reported = True
            self._on_overrun(tenant, spending.spent)

    def _account(self, tenant: str) -> _Account:
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = _Account()
        return account


class _MemoryLease:
    __slots__ = ("_account", "_admitted", "_cost", "_generation", "_limiter", "_open", "_tenant", "_tokens", "headers")

    def __init__(
        self,
        limiter: MemoryLimiter,
        tenant: Tenant,
        account: _Account,
        tokens: int | None,  # reserved; None when tokens are not limited
        cost: int,  # reserved
        admitted: float,
        headers: Headers,
    ) -> None:
        self._limiter = limiter
        self._tenant = tenant
        self._account = account
        self._tokens = tokens
        self._cost = cost
        self._generation = account.spending.generation
        self._admitted = admitted
        self._open = True
        self.headers = headers

    def settle(self, tokens: int, cost: int, now: float) -> None:
        if not self._open:
            return
        self._open = False
        account = self._account
        account.in_flight -= 1
        if self._tokens is not None:
            account.tokens.settle(self._tokens, tokens, int(now * SECOND))
        account.spending.settle(self._cost, cost, self._generation, self._admitted)
        budget = self._tenant.budget
        if budget is not None and budget.on_exceed == "warn":
            self._limiter.tell_overrun(self._tenant, budget, account.spending)


def _headers(tenant: Tenant, account: _Account, clock: int) -> Headers:
    rpm, tpm = tenant.limits.rpm, tenant.limits.tpm
    headers: Headers = []
    if rpm is not None:
        headers += triple(b"requests", rpm, gcra.remaining(account.tat, rpm, clock), max(0, account.tat - clock))
    if tpm is not None:
        tokens = account.tokens
        headers += triple(b"tokens", tpm, tokens.remaining(tpm, clock), tokens.full_in())
    return headers


def _no_money(tenant: Tenant, budget: Budget, spending: Spending, cost: int) -> GatewayError:
    if spending.spent < budget.nanousd and spending.spent + cost <= budget.nanousd:
        return refusals.money_in_flight(tenant, PLACE_WAIT)
    return refusals.out_of_budget(tenant, budget, spending.spent, cost, spending.end)


def _no_room(tenant: Tenant, account: _Account, tokens: int, clock: int) -> GatewayError:
    """The error of the limit that takes longest to make room: coming back earlier would meet it again."""
    limits = tenant.limits
    if limits.tpm is not None and tokens > limits.tpm:
        return refusals.too_large(tenant, limits.tpm, tokens)
    full: list[tuple[int, str, int, int, int]] = []  # wait, what, limit, used, wanted
    if limits.rpm is not None:
        used = limits.rpm - gcra.remaining(account.tat, limits.rpm, clock)
        full.append((gcra.wait(account.tat, limits.rpm, clock), "requests per min (RPM)", limits.rpm, used, 1))
    if limits.tpm is not None:
        used = limits.tpm - account.tokens.remaining(limits.tpm, clock)
        wait = account.tokens.wait(tokens, limits.tpm, clock)
        full.append((wait, "tokens per min (TPM)", limits.tpm, used, tokens))
    if limits.concurrency is not None and account.in_flight >= limits.concurrency:
        full.append((PLACE_WAIT, "requests at the same time", limits.concurrency, account.in_flight, 1))
    wait, what, limit, used, wanted = max(full)
    return refusals.too_fast(tenant, what, limit, used, wanted, wait)
