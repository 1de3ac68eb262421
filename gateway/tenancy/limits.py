"""The contract of admission: a limiter grants each request one lease, and the end of the request settles it once.

A limiter looks at every limit of the tenant before it takes from any, so a refusal takes nothing. What it grants is a
reservation: `estimated_tokens` and `estimated_cost` (nano-USD) should be as much as the request may use.
`memory.MemoryLimiter` keeps the account of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple, Protocol

from gateway.table import Tenant
from gateway.tenancy.spending import period

Headers = list[bytes]  # lines, `name: value`


class Lease(Protocol):
    @property
    def headers(self) -> Headers:
        """The `x-ratelimit-*` headers of the answer: the limits as this request found them, itself included."""
        ...

    def settle(self, tokens: int, cost: int, now: float) -> None:
        """Give the place back and account for what was used; also after an abort. Only the first call counts."""
        ...


class Usage(NamedTuple):
    """A tenant's account at one moment. None where it has no such limit."""

    in_flight: int
    requests_remaining: int | None
    tokens_remaining: int | None
    tokens_reserved: int
    spent: int | None  # nano-USD in the budget's current period
    cost_reserved: int


class Limiter(Protocol):
    def admit(self, tenant: Tenant, key_id: str, estimated_tokens: int, estimated_cost: int, now: float) -> Lease:
        """A lease, or RateLimited (waiting helps) or QuotaExhausted (it does not). `now` is in Unix seconds."""
        ...

    def headers(self, tenant: Tenant, now: float) -> Headers:
        """The `x-ratelimit-*` headers of an answer that was given without a lease, such as a refusal."""
        ...

    def usage(self, tenant: Tenant, now: float) -> Usage: ...

    def seed(self, tenant: str, period_start: float, spent: int) -> None:
        """Tell what the ledger knows was spent in a budget period; until then a limiter believes it was nothing."""
        ...

    def knows(self, tenant: str, period_start: float) -> bool:
        """Whether this limiter keeps, or was seeded with, the account of that period."""
        ...

    def retain(self, tenants: Collection[str]) -> None:
        """Forget every tenant not named here that has nothing in flight."""
        ...


def seed_budgets(limiter: Limiter, tenants: Iterable[Tenant], spent: Callable[[str, float], int], now: float) -> None:
    """Bring the limiter's budgets up to what the ledger says; for the start and after each change of configuration.

    `spent(tenant, since)` is asked only for periods the limiter does not know, so a reload asks for little or nothing.
    """
    for tenant in tenants:
        if tenant.budget is None:
            continue
        start, _ = period(tenant.budget.per, now)
        if not limiter.knows(tenant.name, start):
            limiter.seed(tenant.name, start, spent(tenant.name, start))


class _Unlimited:
    """The lease of a tenant without limits: nothing was taken, so nothing is given back."""

    __slots__ = ()

    @property
    def headers(self) -> Headers:
        return []

    def settle(self, tokens: int, cost: int, now: float) -> None:
        pass


UNLIMITED: Lease = _Unlimited()
