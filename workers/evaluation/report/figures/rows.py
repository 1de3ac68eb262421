"""One row per version: a bar, an estimate with its interval, or what was lost and what was gained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.evaluation.report.figures.canvas import (
    SIZE,
    SMALL,
    Drawing,
    Format,
    Scale,
    bar,
    dot,
    line,
    text,
    x_axis,
)
from workers.evaluation.report.labels import fitted, spread, text_width
from workers.evaluation.report.markup import Markup, joined, tag
from workers.evaluation.report.numbers import finite
from workers.evaluation.report.scales import around, closeness, decades, from_zero

HEIGHT = 40.0  # of a row: its name and value above, its lane beneath
LANE = 27.0
_EDGE = 10.0


@dataclass(frozen=True, slots=True)
class Row:
    """`said` is the value in words. `bound` is that of its gate, `floor` what the reference shows against itself."""

    label: str
    tone: str
    value: float | None
    said: str
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A published value to compare with, as a line across all rows."""

    label: str
    value: float


def bars(rows: Sequence[Row], width: float, alt: str, caption: str, form: Format) -> Drawing:
    """Bars from 0."""
    known = (value for row in rows for value in map(finite, (row.value, row.bound)) if value is not None)
    scale = from_zero(known, _EDGE, width - _EDGE)

    def lane(row: Row, y: float) -> Markup:
        value = finite(row.value)
        body = Markup() if value is None else bar(scale(0), scale(value), y - 5, 10, f"solid {row.tone}")
        return joined(body, _bound(row, scale, y))

    return _drawn(rows, width, alt, caption, form, scale, (), lane)


def intervals(
    rows: Sequence[Row],
    width: float,
    alt: str,
    caption: str,
    form: Format,
    *,
    axis: str = "around",
    marks: Sequence[Mark] = (),
) -> Drawing:
    """Estimates with their intervals. `axis` is `around` (the values), `log` (0 and less at the left edge) or
    `closeness` (of shares to 1)."""
    values = [
        value for row in rows for value in map(finite, (row.value, row.low, row.high, row.bound)) if value is not None
    ]
    values += [mark.value for mark in marks]
    maker = {"around": around, "log": decades, "closeness": closeness}[axis]
    scale: Scale = maker(values, _EDGE, width - _EDGE)

    def lane(row: Row, y: float) -> Markup:
        parts: list[Markup] = []
        if row.floor is not None and finite(row.floor) and scale(row.floor) > scale.start:
            parts.append(bar(scale.start, scale(row.floor), y - 7, 14, "floor"))
        low, high, value = finite(row.low), finite(row.high), finite(row.value)
        if low is not None and high is not None:
            parts.append(line(scale(low), y, scale(high), y, f"curve {row.tone}"))
            parts += [line(scale(end), y - 4, scale(end), y + 4, f"curve {row.tone}") for end in (low, high)]
        if value is not None:
            parts.append(dot(scale(value), y, f"solid {row.tone}"))
        return joined(*parts, _bound(row, scale, y))

    return _drawn(rows, width, alt, caption, form, scale, marks, lane)


def lost_and_gained(rows: Sequence[tuple[Row, int, int]], width: float, alt: str) -> Drawing:
    """To the left what only the reference has right, to the right what only the candidate has."""
    most = max((max(lost, gained) for _, lost, gained in rows), default=0) or 1
    middle, reach = width / 2, width / 2 - _EDGE - 34
    parts = [
        text(middle - 8, 12, "lost ←", "small muted", anchor="end"),
        text(middle + 8, 12, "→ gained", "small muted"),
    ]
    top = 18.0
    for place, (row, lost, gained) in enumerate(rows):
        y = top + place * HEIGHT
        parts.append(_heading(row, y, width))
        lane = y + LANE
        parts.append(bar(middle - reach * lost / most, middle, lane - 5, 10, f"solid {row.tone}"))
        parts.append(bar(middle, middle + reach * gained / most, lane - 5, 10, f"pale {row.tone}"))
        parts.append(text(middle - reach * lost / most - 6, lane + 4, f"{lost:,}", "small", anchor="end"))
        parts.append(text(middle + reach * gained / most + 6, lane + 4, f"{gained:,}", "small"))
    height = top + len(rows) * HEIGHT + 6
    parts.append(line(middle, top, middle, height - 4, "grid"))
    return Drawing(width, height, alt, joined(*parts))


def _drawn(
    rows: Sequence[Row],
    width: float,
    alt: str,
    caption: str,
    form: Format,
    scale: Scale,
    marks: Sequence[Mark],
    lane: Callable[[Row, float], Markup],
) -> Drawing:
    top = 34.0 if marks else 4.0
    bottom = top + len(rows) * HEIGHT + 2
    lanes = [(top + place * HEIGHT + LANE - 9, top + place * HEIGHT + LANE + 9) for place in range(len(rows))]
    parts = [x_axis(scale, bottom, form, lanes, width, 6 if width > 400 else 4), _marks(marks, scale, top, lanes)]
    for place, row in enumerate(rows):
        y = top + place * HEIGHT
        parts += [_heading(row, y, width), lane(row, y + LANE)]
    parts.append(text(_EDGE, bottom + 31, caption, "small muted", room=width - 2 * _EDGE))
    return Drawing(width, bottom + 38, alt, joined(*parts))


def _heading(row: Row, y: float, width: float) -> Markup:
    said = fitted(row.said, SIZE, width * 0.62)
    value = text(width - _EDGE, y + 14, said, "backed", anchor="end")
    room = width - 2 * _EDGE - text_width(said, SIZE) - 12
    return joined(text(_EDGE, y + 14, row.label, f"strong tone {row.tone} backed", room=room), value)


def _bound(row: Row, scale: Scale, y: float) -> Markup:
    bound = finite(row.bound)
    return Markup() if bound is None else line(scale(bound), y - 9, scale(bound), y + 9, "bound")


def _marks(marks: Sequence[Mark], scale: Scale, top: float, lanes: Sequence[tuple[float, float]]) -> Markup:
    """Their names above all rows, moved apart where two are close, and a stroke in each lane."""
    if not marks:
        return Markup()
    order = sorted(marks, key=lambda mark: mark.value)
    half = max(text_width(mark.label, SMALL) for mark in order) / 2
    places = spread([scale(mark.value) for mark in order], 2 * half + 6, scale.start + half, scale.end - half)
    parts: list[Markup] = []
    for mark, place in zip(order, places, strict=True):
        x = scale(mark.value)
        parts.append(tag("path", d=f"M{place:.1f} 17 L{x:.1f} {top - 2:.1f}", class_="mark", fill="none"))
        parts += [line(x, start, x, end, "mark") for start, end in lanes]
        parts.append(text(place, 12, mark.label, "small muted", anchor="middle"))
    return joined(*parts)
