"""What each tenant is worth: the Shapley value of the game in which a set of tenants is worth the time that the engine
is busy when only their requests come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import factorial
from random import Random
from typing import NamedTuple

from loadtests.attribution.engine import Engine, Request, run


class Value(NamedTuple):
    """Seconds by tenant, and the standard error of each."""

    seconds: list[float]
    error: list[float]


def shapley(engine: Engine, requests: Sequence[Request], tenants: int, orders: int, seed: int) -> Value:
    """From so many random orders, each also backwards; from every set of tenants where `orders` is 0."""
    known: dict[frozenset[int], float] = {frozenset(): 0.0}

    def worth(players: frozenset[int]) -> float:
        if players not in known:
            known[players] = run(engine, [one for one in requests if one.tenant in players]).busy
        return known[players]

    if not orders:
        return Value(_exact(worth, tenants), [0.0] * tenants)
    return _sampled(worth, tenants, orders, Random(seed))


def _exact(worth: Callable[[frozenset[int]], float], tenants: int) -> list[float]:
    found = [0.0] * tenants
    for player in range(tenants):
        others = [one for one in range(tenants) if one != player]
        for size in range(tenants):
            weight = factorial(size) * factorial(tenants - size - 1) / factorial(tenants)
            for some in map(frozenset, combinations(others, size)):
                found[player] += weight * (worth(some | {player}) - worth(some))
    return found


def _sampled(worth: Callable[[frozenset[int]], float], tenants: int, orders: int, dice: Random) -> Value:
    """The mean of what each adds, and its standard error."""
    found: list[list[float]] = [[] for _ in range(tenants)]
    order = list(range(tenants))
    for _ in range(orders):
        dice.shuffle(order)
        added = [0.0] * tenants
        for way in (order, order[::-1]):
            there: frozenset[int] = frozenset()
            for player in way:
                joined = there | {player}
                added[player] += (worth(joined) - worth(there)) / 2
                there = joined
        for player in range(tenants):
            found[player].append(added[player])
    means = [sum(one) / orders for one in found]
    variances = [
        sum((value - mean) ** 2 for value in one) / max(1, orders - 1) for one, mean in zip(found, means, strict=True)
    ]
    return Value(means, [(variance / orders) ** 0.5 for variance in variances])
