"""The contract of admission: a limiter grants each request one lease, and the end of the request settles it once.

A request counts in up to three accounts: its tenant's, its key's, and its tenant's for one model. All of their limits
are looked at before anything is taken, so a refusal takes nothing. What is granted is a reservation: `tokens` and
`money` (nano-USD) should be as much as the request may use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Final, NamedTuple, Protocol

from gateway.table import Key, Tenant
from gateway.tenancy.budget import period

Headers = list[bytes]  # lines, `name: value`; several of them may come as one, with CRLF between them


class Lease:
    """The lease of a tenant without limits, of which nothing is taken and nothing given back; those that hold something
    derive from it. A class and no protocol: compiled, it is called directly."""

    __slots__ = ("headers",)

    def __init__(self, headers: Headers) -> None:
        self.headers = headers  # `x-ratelimit-*`: the limits as this request found them, itself included

    def extend(self, money: int) -> bool:
        """Reserve up to `money` in all; False when the budget has no more. To be asked again later, it may be on its
        way."""
        return True

    def covers(self, money: int) -> bool:
        """Whether so much is reserved."""
        return True

    def cancel(self) -> None:
        """Give everything back, as if it had not been asked for, or nearly: what was told to others stays counted."""

    def settle(self, tokens: int, cost: int, now: float, arrived: float = inf) -> None:
        """Give the place back and account for what was used; also after an abort. Only the first call counts.

        A cost belongs to the period the request `arrived` in (Unix seconds), as in the ledger: what came before
        midnight and had its place after it costs the new day nothing.
        """


UNLIMITED: Final = Lease([])


class Standing(NamedTuple):
    """One account at one moment, over all processes as far as this one knows. None where it has no such limit."""

    account: str  # `tenant`, `budget:month`, `key:prod`, `model:chat-8b`
    in_flight: int  # in this process
    requests_limit: int | None
    requests_remaining: int | None
    tokens_limit: int | None
    tokens_remaining: int | None
    places_limit: int | None
    places_remaining: int | None
    budget: int | None  # nano-USD
    spent: int | None  # of the current period
    reserved: int | None
    processes: int  # that share it


class LimiterState(NamedTuple):
    """How the accounts are kept."""

    store: str  # "memory", "parent" (of several processes), or "redis"
    is_away: bool  # the store that processes share is
    processes: int  # that share it
    waiting: int  # requests, for the store's answer


class Spent(NamedTuple):
    """What the books last said of a budget's current period."""

    money: int  # nano-USD
    is_settled: bool  # as far as this process goes: nothing of the tenant is under way or untold


class Limiter(Protocol):
    """`now` is in Unix seconds."""

    @property
    def state(self) -> LimiterState: ...

    def admit(self, key: Key, model: str, tokens: int, money: int, now: float) -> Lease | None:
        """A lease, or None when replicas have to be asked first: `wait` does. Raises RateLimited (waiting helps) or
        QuotaExhausted (it does not)."""
        ...

    async def wait(self, key: Key, model: str, tokens: int, money: int) -> Lease:
        """A lease after the replicas' store was asked, in bounded time whatever becomes of it. Raises as `admit`."""
        ...

    def headers(self, key: Key, now: float) -> Headers:
        """The `x-ratelimit-*` headers of an answer that was given without a lease, such as a refusal."""
        ...

    def standings(self, tenant: Tenant, now: float) -> list[Standing]:
        """The accounts of a tenant that have been used of late."""
        ...

    def tick(self, now: float) -> None:
        """To be called a few times a second, and before `seed` and `retain`: accounts are brought up to date."""
        ...

    async def run(self) -> None:
        """To be started with the server and cancelled before `close`."""
        ...

    async def close(self) -> None:
        """Give back what is held, in bounded time."""
        ...

    def seed(self, tenant: Tenant, period_start: int, spent: int) -> None:
        """Tell what the ledger knows was spent in a budget period (which begins at Unix milliseconds)."""
        ...

    def knows(self, tenant: Tenant, period_start: int) -> bool:
        """Whether that period's account is kept, or was seeded."""
        ...

    def spent(self, tenant: Tenant, period_start: int) -> Spent | None:
        """None while this process has no word of the books' on that period."""
        ...

    def inquire(self, tenant: Tenant, sure: int) -> None:
        """Have the books say how the tenant's budget stands. `sure` is what they said, where what was seeded is the
        truth of it and should take its place; -1 otherwise."""
        ...

    def retain(self, tenants: Mapping[str, Tenant]) -> None:
        """A changed configuration: forget what others than these tenants have left behind."""
        ...


def seed_budgets(limiter: Limiter, tenants: Iterable[Tenant], spent: Callable[[str, float], int], now: float) -> None:
    """Bring the limiter's budgets up to what the ledger says; for the start and after each change of configuration.

    `spent(tenant, since)` is asked only for periods the limiter does not know, so a reload asks for little or nothing.
    """
    for tenant in tenants:
        if tenant.budget is None:
            continue
        start, _ = period(tenant.budget.per, int(now * 1_000))
        if not limiter.knows(tenant, start):
            limiter.seed(tenant, start, spent(tenant.name, start / 1_000))


class Both(Lease):
    """A tenant's lease, and one of what all tenants share. Its headers and its money are the tenant's."""

    __slots__ = ("_common", "_own")

    def __init__(self, own: Lease, common: Lease) -> None:
        super().__init__(own.headers)
        self._own = own
        self._common = common

    def extend(self, money: int) -> bool:
        return self._own.extend(money)

    def covers(self, money: int) -> bool:
        return self._own.covers(money)

    def cancel(self) -> None:
        self._own.cancel()
        self._common.cancel()

    def settle(self, tokens: int, cost: int, now: float, arrived: float = inf) -> None:
        self._own.settle(tokens, cost, now, arrived)
        self._common.settle(tokens, 0, now)
