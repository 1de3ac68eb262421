"""What a tenant reads when a limit says no: which limit, how far it is used, and when to come back."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.errors import QuotaExhausted, RateLimited
from gateway.table import Budget, Tenant

SECOND = 1_000_000_000


def too_fast(tenant: Tenant, what: str, limit: int, used: int, wanted: int, wait: int) -> RateLimited:
    """A limit that makes room by itself; `wait` in nanoseconds."""
    seconds = wait / SECOND
    return RateLimited(
        f"Rate limit reached for tenant `{tenant.name}` on {what}: Limit {limit}, Used {used}, Requested {wanted}. "
        f"Please try again in {seconds:.3g}s.",
        retry_after=seconds,
    )


def too_large(tenant: Tenant, limit: int, wanted: int) -> RateLimited:
    """A request that the limit could not hold even when nothing else runs."""
    error = RateLimited(
        f"Request too large for tenant `{tenant.name}` on tokens per min (TPM): Limit {limit}, Requested {wanted}. "
        "The prompt and `max_tokens` count together; they must be reduced to run.",
    )
    error.retryable = False
    return error


def money_in_flight(tenant: Tenant, wait: int) -> RateLimited:
    """A budget that is not used up, but may be by the requests that are running: their end decides."""
    return RateLimited(
        f"The rest of the budget of tenant `{tenant.name}` is reserved for its requests in flight. "
        "Please try again when one of them has ended.",
        retry_after=wait / SECOND,
    )


def out_of_budget(tenant: Tenant, budget: Budget, spent: int, wanted: int, end: float) -> QuotaExhausted:
    """A budget that refuses until its period is over."""
    if budget.per == "total":
        renewal = "It is not renewed; the operator of this gateway can raise it."
    else:
        renewal = f"It is renewed at {datetime.fromtimestamp(end, UTC):%Y-%m-%dT%H:%M:%SZ}."
    per = "in all" if budget.per == "total" else f"per {budget.per}"
    return QuotaExhausted(
        f"You exceeded your current quota: of the {_usd(budget.nanousd)} {per} of tenant `{tenant.name}`, "
        f"{_usd(spent)} is spent and this request may cost {_usd(wanted)}. {renewal}",
    )


def _usd(nanousd: int) -> str:
    """To the cent, or as exact as it takes to show an amount below one."""
    if nanousd % 10_000_000 == 0:
        return f"${nanousd // 1_000_000_000}.{nanousd % 1_000_000_000 // 10_000_000:02d}"
    return f"${nanousd // 1_000_000_000}.{nanousd % 1_000_000_000:09d}".rstrip("0")
