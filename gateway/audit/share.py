"""An amount shared out by weight, whole and within bounds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Room(NamedTuple):
    """What one of them can take: `most` upward, `least` (0 or negative) downward."""

    weight: int
    least: int
    most: int


def share(amount: int, rooms: Sequence[Room]) -> list[int]:
    """Integers in proportion to the weights, by the largest remainder; the first of equals has it. They sum to the
    amount, or to as much of it as there is room for."""
    sign = 1 if amount >= 0 else -1
    given = [0] * len(rooms)
    limits = [room.most if sign > 0 else -room.least for room in rooms]
    taking: list[int] = [at for at, room in enumerate(rooms) if room.weight > 0 and limits[at] > 0]
    left = abs(amount)
    while left and taking:
        total = sum(rooms[at].weight for at in taking)
        full: set[int] = {at for at in taking if left * rooms[at].weight >= limits[at] * total}
        if not full:
            order: list[int] = sorted(taking, key=_by_remainder(left, total, rooms))
            for at in taking:
                given[at] = left * rooms[at].weight // total
            for at in order[: left - sum(given[at] for at in taking)]:
                given[at] += 1
            break
        for at in full:  # they have what they can take, together no more than there is; the others share the rest
            given[at] = limits[at]
            left -= limits[at]
        taking = [at for at in taking if at not in full]
    return [sign * each for each in given]


def _by_remainder(left: int, total: int, rooms: Sequence[Room]) -> Callable[[int], tuple[int, int]]:
    return lambda at: (-(left * rooms[at].weight % total), at)
