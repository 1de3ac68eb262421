"""Quality against a cost or a gain, every version a point with its name, the Pareto front through the best."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from workers.evaluation.report.figures.canvas import (
    SIZE,
    Drawing,
    Format,
    dot,
    line,
    polyline,
    text,
    widest,
    x_axis,
)
from workers.evaluation.report.labels import Box, fitted, place, text_width
from workers.evaluation.report.markup import Markup, joined, tag
from workers.evaluation.report.numbers import finite, number
from workers.evaluation.report.pareto import front
from workers.evaluation.report.scales import Log, decades, from_zero

_RADIUS, _TOP, _BOTTOM, _ZERO = 6.0, 30.0, 56.0, 26.0


@dataclass(frozen=True, slots=True)
class Point:
    """`loss` is 0 or more, smaller is better. `passed` is None for a reference, which no gate judges."""

    label: str
    tone: str
    x: float
    loss: float
    passed: bool | None


def on_front(points: Sequence[Point], *, more_is_better: bool) -> tuple[Point, ...]:
    sign = -1 if more_is_better else 1
    return tuple(points[one] for one in front([(sign * point.x, point.loss) for point in points]))


def scatter(
    points: Sequence[Point],
    width: float,
    alt: str,
    *,
    x_caption: str,
    y_caption: str,
    x_form: Format,
    more_is_better: bool,
) -> Drawing:
    """The loss grows downwards on a logarithmic scale with a place of its own for 0 at the top."""
    known = [one for one in points if finite(one.x) is not None and finite(one.loss) is not None]
    height = 300.0 + max(0, len(known) - 4) * 14.0
    losses = decades((one.loss for one in known), _TOP + _ZERO, height - _BOTTOM)
    ticks = losses.ticks(4)
    left = 14 + widest([number(value, 1) for value in ticks])
    area = Box(left, _TOP - 12, width - 6, height - _BOTTOM + 8)
    across = from_zero((one.x for one in known), left + 4, width - 12)
    lanes = [(_TOP - 8, height - _BOTTOM + 8)]
    parts = [x_axis(across, height - _BOTTOM + 8, x_form, lanes, width, 5 if width > 400 else 4)]
    for value, y in [(0.0, _TOP), *((value, losses(value)) for value in ticks)]:
        parts.append(line(left, y, width - 6, y, "grid"))
        parts.append(text(left - 6, y + 4, number(value, 1), "small muted", anchor="end"))
    marks = [(across(one.x), _down(one.loss, losses)) for one in known]
    corners = _corners(known, marks, more_is_better)
    parts.append(polyline(corners, "front") if len(corners) > 1 else Markup())
    room = width * 0.4
    names = [fitted(one.label, SIZE * 1.07, room) for one in known]
    sizes = [(text_width(name, SIZE * 1.07), 15.0) for name in names]
    segments = [
        Box(min(x1, x2) - 2, min(y1, y2) - 2, max(x1, x2) + 2, max(y1, y2) + 2)
        for (x1, y1), (x2, y2) in itertools.pairwise(corners)
    ]
    boxes = place(marks, sizes, area, _RADIUS + 1, segments)
    for one, (x, y), box in zip(known, marks, boxes, strict=True):
        parts.append(_leader(x, y, box, one.tone))
        parts.append(_mark(one, x, y))
        parts.append(text(box.left, box.top + 12, one.label, f"strong tone {one.tone} backed", room=room))
    parts.append(text(4, 11, f"↑ better · {y_caption}", "small muted", room=width - 8))
    caption = f"{x_caption} · better →" if more_is_better else f"← better · {x_caption}"
    at = width - 8 if more_is_better else left
    anchor = "end" if more_is_better else "start"
    parts.append(text(at, height - 14, caption, "small muted", anchor=anchor, room=width - left - 8))
    return Drawing(width, height, alt, joined(*parts))


def _down(loss: float, losses: Log) -> float:
    return losses(loss) if loss > 0 else _TOP


def _corners(
    points: Sequence[Point], marks: Sequence[tuple[float, float]], more_is_better: bool
) -> list[tuple[float, float]]:
    """Steps: what lies between two of the front is no better than the worse of both in each respect."""
    best = on_front(points, more_is_better=more_is_better)
    at = [marks[points.index(one)] for one in best]
    corners: list[tuple[float, float]] = []
    for x, y in at:
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return corners


def _mark(point: Point, x: float, y: float) -> Markup:
    """A disc may serve, a crossed ring may not, a square is the reference."""
    if point.passed is None:
        return tag("rect", x=x - 5, y=y - 5, width=10, height=10, rx=1, class_=f"solid {point.tone}")
    if point.passed:
        return dot(x, y, f"solid {point.tone}", _RADIUS)
    cross = tag("path", d=f"M{x - 2.5:.1f} {y - 2.5:.1f}l5 5m0 -5l-5 5", class_=f"curve {point.tone}")
    return joined(dot(x, y, f"hollow {point.tone}", _RADIUS), cross)


def _leader(x: float, y: float, box: Box, tone: str) -> Markup:
    nearest = (min(max(x, box.left), box.right), min(max(y, box.top + 2), box.bottom - 2))
    if (nearest[0] - x) ** 2 + (nearest[1] - y) ** 2 < (_RADIUS + 9) ** 2:
        return Markup()
    return line(x, y, *nearest, f"thin {tone}")
