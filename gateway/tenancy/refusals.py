"""What a tenant reads when a limit says no: whose limit, which, how far it is used, and when to come back.

Waits are in milliseconds, money in nano-USD.
"""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.errors import QuotaExhausted, RateLimited
from gateway.table import Budget


def too_fast(whose: str, what: str, limit: int, used: int, wanted: int, wait: int) -> RateLimited:
    """A limit that makes room by itself."""
    seconds = wait / 1_000
    return RateLimited(
        f"Rate limit reached for {whose} on {what}: Limit {limit}, Used {used}, Requested {wanted}. "
        f"Please try again in {seconds:{'.3g' if seconds < 100 else '.0f'}}s.",
        retry_after=seconds,
    )


def too_large(whose: str, limit: int, wanted: int) -> RateLimited:
    """A request that the limit could not hold even when nothing else runs."""
    error = RateLimited(
        f"Request too large for {whose} on tokens per min (TPM): Limit {limit}, Requested {wanted}. "
        "The prompt and `max_tokens` count together; they must be reduced to run.",
    )
    error.retryable = False
    return error


def money_in_flight(whose: str, wait: int) -> RateLimited:
    """A budget that is not used up, but may be by the requests that are running: their end decides."""
    return RateLimited(
        f"The rest of the budget of {whose} is reserved for its requests in flight. "
        "Please try again when one of them has ended.",
        retry_after=wait / 1_000,
    )


def too_many_waiting(whose: str) -> RateLimited:
    """More requests wait for the store that replicas share their limits in than it will have answered soon."""
    return RateLimited(
        f"Too many requests wait for the limits of {whose} to be confirmed. Please try again in 1s.", retry_after=1.0
    )


def part_too_small(whose: str, what: str, limit: int, part: int, wanted: int) -> RateLimited:
    """A request that the limit could hold, but not the part of it that this process keeps while it is alone."""
    return RateLimited(
        f"The limit of {whose} on {what} can not be confirmed at the moment, for the store that replicas share it in "
        f"is away: Limit {limit}, here until it is back {part}, Requested {wanted}. Please try again shortly.",
        retry_after=1.0,
    )


def money_unconfirmed(whose: str) -> RateLimited:
    """A budget that nobody can be asked about just now; what was granted of it before is used up."""
    return RateLimited(
        f"The budget of {whose} can not be confirmed at the moment, for the store that replicas share it in is away. "
        "Please try again shortly.",
        retry_after=1.0,
    )


def out_of_budget(whose: str, budget: Budget, spent: int, wanted: int, end: int) -> QuotaExhausted:
    """A budget that refuses until its period is over, at `end` in Unix milliseconds."""
    if budget.per == "total":
        renewal = "It is not renewed; the operator of this gateway can raise it."
    else:
        renewal = f"It is renewed at {datetime.fromtimestamp(end / 1_000, UTC):%Y-%m-%dT%H:%M:%SZ}."
    per = "in all" if budget.per == "total" else f"per {budget.per}"
    return QuotaExhausted(
        f"You exceeded your current quota: of the {_usd(budget.nanousd)} {per} of {whose}, "
        f"{_usd(spent)} is spent and this request may cost {_usd(wanted)}. {renewal}",
    )


def _usd(nanousd: int) -> str:
    """To the cent, or as exact as it takes to show an amount below one."""
    if nanousd % 10_000_000 == 0:
        return f"${nanousd // 1_000_000_000}.{nanousd % 1_000_000_000 // 10_000_000:02d}"
    return f"${nanousd // 1_000_000_000}.{nanousd % 1_000_000_000:09d}".rstrip("0")
