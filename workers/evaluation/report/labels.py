"""Where labels go so that none covers another, and how much room a text needs."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_NARROW, _WIDE = frozenset("iljtfrI.,:;'|!()[] "), frozenset("mwMW@%—&")


def text_width(text: str, size: float) -> float:
    """An upper estimate, by the widest of the usual sans-serif fonts (DejaVu Sans)."""
    return size * sum(map(_advance, text))


def fitted(text: str, size: float, room: float) -> str:
    """The text, cut in its middle with an ellipsis where it has no room: names differ at their ends."""
    if text_width(text, size) <= room:
        return text
    rest = (room - text_width("…", size)) / 2
    head, tail = _within(text, size, rest), _within(text[::-1], size, rest)
    return f"{text[:head].rstrip()}…{text[len(text) - tail :].lstrip()}"


def _within(text: str, size: float, room: float) -> int:
    """How many of the first characters have room."""
    widths = itertools.accumulate(_advance(one) * size for one in text)
    return sum(1 for _ in itertools.takewhile(lambda width: width <= room, widths))


def _advance(one: str) -> float:
    if unicodedata.combining(one):
        return 0.0
    if one in _NARROW:
        return 0.42
    if one in _WIDE:
        return 1.0
    if unicodedata.east_asian_width(one) in ("W", "F") or ord(one) > 0x2FFF:
        return 1.4
    return 0.72 if one.isupper() else 0.64


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places moved as little as it takes to be `gap` apart within the bounds, their order kept; closer together
    where the bounds have no room for all."""
    if not places:
        return []
    gap = min(gap, (high - low) / max(1, len(places) - 1)) if len(places) > 1 else gap
    order = sorted(range(len(places)), key=lambda one: places[one])
    # Runs of places that touch, each at the mean of what its members wish: pool adjacent violators.
    runs: list[tuple[float, int]] = []
    for rank, one in enumerate(order):
        start, count = places[one] - rank * gap, 1
        while runs and runs[-1][0] >= start:
            before, many = runs.pop()
            start, count = (start * count + before * many) / (count + many), count + many
        runs.append((start, count))
    last = high - gap * (len(places) - 1)
    starts = [min(max(start, low), max(low, last)) for start, count in runs for _ in range(count)]
    moved = [0.0] * len(places)
    for rank, (one, start) in enumerate(zip(order, starts, strict=True)):
        moved[one] = start + rank * gap
    return moved


@dataclass(frozen=True, slots=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def covers(self, other: Box) -> float:
        """The area that both have."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide * high if wide > 0 and high > 0 else 0.0

    def within(self, other: Box) -> bool:
        inside = self.left >= other.left and self.right <= other.right
        return inside and self.top >= other.top and self.bottom <= other.bottom


def place(
    marks: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    area: Box,
    radius: float,
    lines: Sequence[Box] = (),
) -> list[Box]:
    """A box for the label of each mark: beside it where there is room, else the nearest room in the area.

    No box covers another or a mark, as long as the area has room; beside a mark it keeps clear of the lines if it can.
    """
    taken = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in marks]
    placed: list[Box] = []
    for (x, y), (wide, high) in zip(marks, sizes, strict=True):
        best, least = Box(x, y, x + wide, y + high), (float("inf"), 0.0)
        beside, away = _beside(x, y, wide, high, radius), _away(x, y, wide, high, area)
        for place, (left, top) in enumerate(itertools.chain(beside, away)):
            if place >= len(beside) and least[0] == 0:
                break
            box = Box(left, top, left + wide, top + high)
            if not box.within(area):
                continue
            covered = sum(map(box.covers, taken)), sum(map(box.covers, lines))
            if covered < least:
                best, least = box, covered
            if covered == (0, 0):
                break
        taken.append(best)
        placed.append(best)
    return placed


def _beside(x: float, y: float, wide: float, high: float, radius: float) -> tuple[tuple[float, float], ...]:
    out = radius + 2
    return (
        (x + out, y - high / 2),
        (x - out - wide, y - high / 2),
        (x - wide / 2, y - out - high),
        (x - wide / 2, y + out),
        (x + out, y - out - high * 0.6),
        (x + out, y + out - high * 0.4),
        (x - out - wide, y - out - high * 0.6),
        (x - out - wide, y + out - high * 0.4),
    )


def _away(x: float, y: float, wide: float, high: float, area: Box) -> Iterator[tuple[float, float]]:
    """All of the area, from near to far; looked through only where there is no room beside."""
    grid = (
        (area.left + 8 * column, area.top + 6 * row)
        for column in range(int(max(0.0, area.right - area.left - wide) // 8) + 1)
        for row in range(int(max(0.0, area.bottom - area.top - high) // 6) + 1)
    )
    yield from sorted(grid, key=lambda at: (at[0] + wide / 2 - x) ** 2 / 4 + (at[1] + high / 2 - y) ** 2)
