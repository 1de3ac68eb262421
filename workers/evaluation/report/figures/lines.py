"""One line per version over steps (batches, contexts), each named at its end."""

from __future__ import annotations

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
    y_axis,
)
from workers.evaluation.report.figures.rows import Mark
from workers.evaluation.report.labels import spread
from workers.evaluation.report.markup import Markup, joined
from workers.evaluation.report.numbers import finite
from workers.evaluation.report.scales import around, decades, from_zero

_TOP, _BOTTOM, _GAP = 14.0, 40.0, 15.0


@dataclass(frozen=True, slots=True)
class Series:
    """`points` by step; a step that was not measured is left out. The reference is dashed."""

    label: str
    tone: str
    points: tuple[tuple[int, float], ...]
    dashed: bool = False


def lines(
    series: Sequence[Series],
    width: float,
    alt: str,
    caption: str,
    form: Format,
    *,
    axis: str = "zero",
    step_form: Format = "{:g}".format,
    marks: Sequence[Mark] = (),
) -> Drawing:
    """`axis` is `zero` (from 0), `around` (the values) or `log`; steps are evenly apart, whatever lies between them."""
    known = [
        (one, [(step, value) for step, value in sorted(one.points) if finite(value) is not None]) for one in series
    ]
    steps = sorted({step for _, points in known for step, _ in points})
    values = [value for _, points in known for _, value in points] + [mark.value for mark in marks]
    height = max(230.0, _TOP + _BOTTOM + _GAP * (len(known) + len(marks)))
    maker = {"zero": from_zero, "around": around, "log": decades}[axis]
    scale = maker(values, height - _BOTTOM, _TOP)
    left = 12 + widest([form(value) for value in scale.ticks(4)])
    names = [one.label for one, points in known if points]
    right = width - min(width * 0.34, widest([*names, *(mark.label for mark in marks)], SIZE * 1.07) + 22)
    span = right - left - 16
    across = {
        step: left + 8 + span * (place / (len(steps) - 1) if len(steps) > 1 else 0.5)
        for place, step in enumerate(steps)
    }
    parts = [y_axis(scale, left, right, form)]
    parts += [_step(across[step], height, step_form(step)) for step in steps]
    ends: list[tuple[float, float, str, str]] = []
    for mark in marks:
        y = scale(mark.value)
        parts.append(line(left, y, right, y, "mark"))
        ends.append((right, y, mark.label, "small muted"))
    for one, points in known:
        if not points:
            continue
        drawn = [(across[step], scale(value)) for step, value in points]
        parts.append(polyline(drawn, f"curve {one.tone}" + (" dashed" if one.dashed else "")))
        parts += [dot(x, y, f"{'hollow' if one.dashed else 'solid'} {one.tone}", 3.5) for x, y in drawn]
        ends.append((*drawn[-1], one.label, f"strong tone {one.tone}"))
    parts.append(_names(ends, right, width, height))
    parts.append(text(left, height - 6, caption, "small muted", room=width - left - 4))
    return Drawing(width, height, alt, joined(*parts))


def _step(x: float, height: float, said: str) -> Markup:
    return text(x, height - _BOTTOM + 16, said, "small muted", anchor="middle")


def _names(ends: Sequence[tuple[float, float, str, str]], right: float, width: float, height: float) -> Markup:
    places = spread([y for _, y, _, _ in ends], _GAP, _TOP, height - _BOTTOM)
    parts: list[Markup] = []
    for (x, y, label, class_), place in zip(ends, places, strict=True):
        tone = class_.split()[-1]
        parts.append(line(min(x + 6, right), y, right + 12, place, f"thin {tone}" if tone != "muted" else "mark"))
        parts.append(text(right + 15, place + 4, label, class_, room=width - right - 15))
    return joined(*parts)
