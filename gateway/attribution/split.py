"""A window's cost among the lines of the bill, to the nano-USD."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

Idle = Literal["own_line", "by_usage", "by_reservation"]

IDLE = "__idle__"
UNOBSERVED = "__unobserved__"
PROBE = "__probe__"
OVERHEADS = frozenset({IDLE, UNOBSERVED, PROBE})

_HOUR_NS = 3_600_000_000_000
_PRECISION = 1 << 62


def cost_until(hourly: int, at_ns: int) -> int:
    """What all time until a moment costs, in nano-USD: differences of it sum without a rest, whatever the cuts."""
    return hourly * at_ns // _HOUR_NS


def largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in parts as the weights are to each other: the sum is exact, and none is off by a whole unit. All to the
    first when there is no weight."""
    whole = sum(weights)
    if not whole:
        return [total, *[0] * (len(weights) - 1)]
    pairs = [divmod(total * weight, whole) for weight in weights]
    parts = [part for part, _ in pairs]
    missing = total - sum(parts)
    if missing:
        by_rest = sorted(range(len(pairs)), key=lambda index: (-pairs[index][1], index))
        for index in by_rest[:missing]:
            parts[index] += 1
    return parts


def as_integers(weights: Sequence[float]) -> list[int]:
    """In proportion, as exactly as floats are. Negative ones and those that are no number count as nothing."""
    most = max(weights, default=0.0)
    if not 0 < most < float("inf"):
        return [0] * len(weights)
    return [int(weight / most * _PRECISION) if weight > 0 else 0 for weight in weights]


class Key(NamedTuple):
    """Who pays: the ledger's numbers of a line and a label, or 0, 0 and the tenant of a line without requests."""

    line: int
    label: int
    tenant: str


class Policy(NamedTuple):
    """`reservations` are shares of idle time by tenant; beyond 1 in all they are taken in proportion."""

    idle: Idle = "own_line"
    reservations: Mapping[str, float] = {}


def split(
    cost: int, busy_ns: int, length_ns: int, users: Mapping[Key, float], policy: Policy, *, observed: bool = True
) -> dict[Key, int]:
    """Who pays how much of a window: what is busy goes to the users by weight, and what is idle where the policy says;
    to a line of its own where nobody observed the worker. The sum is `cost` exactly."""
    keys = sorted(users)
    weights = as_integers([users[key] for key in keys])
    if not any(weights):
        busy_ns = 0
    busy_ns = min(max(busy_ns, 0), length_ns)
    busy, idle = largest_remainder(cost, [busy_ns, length_ns - busy_ns])
    shares: dict[Key, int] = {}
    if any(weights):
        _add(shares, keys, largest_remainder(busy, weights))
    else:
        idle = cost
    if not observed:
        _add(shares, [Key(0, 0, UNOBSERVED)], [idle])
    elif policy.idle == "by_reservation":
        _add(shares, *_reserved(idle, policy.reservations))
    else:
        payers = [(key, weight) for key, weight in zip(keys, weights, strict=True) if key.tenant not in OVERHEADS]
        if policy.idle == "by_usage" and any(weight for _, weight in payers):
            _add(shares, [key for key, _ in payers], largest_remainder(idle, [weight for _, weight in payers]))
        else:
            _add(shares, [Key(0, 0, IDLE)], [idle])
    return {key: share for key, share in shares.items() if share}


def _reserved(idle: int, reservations: Mapping[str, float]) -> tuple[list[Key], list[int]]:
    tenants = sorted(tenant for tenant, part in reservations.items() if part > 0)
    weights = [round(reservations[tenant] * 1e9) for tenant in tenants]
    rest = max(0, 1_000_000_000 - sum(weights))
    return [Key(0, 0, IDLE), *(Key(0, 0, tenant) for tenant in tenants)], largest_remainder(idle, [rest, *weights])


def _add(shares: dict[Key, int], keys: Iterable[Key], parts: Iterable[int]) -> None:
    for key, part in zip(keys, parts, strict=True):
        shares[key] = shares.get(key, 0) + part
