"""Which versions nothing else beats in both respects."""

from __future__ import annotations

from collections.abc import Sequence


def front(costs: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Places of the points that no other is as good as in both and better in one, smaller being better, by the first
    cost. Points that are equal in both are there together."""
    order = sorted(range(len(costs)), key=lambda place: costs[place])
    kept: list[int] = []
    best = float("inf")
    for place in order:
        first, second = costs[place]
        if second < best or (kept and costs[kept[-1]] == (first, second)):
            kept.append(place)
            best = second
    return tuple(kept)
