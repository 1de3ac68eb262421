"""What every plot is drawn with: a picture of its own style, texts that fit, axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.evaluation.report.labels import fitted, text_width
from workers.evaluation.report.markup import Markup, escape, joined, tag
from workers.evaluation.report.palette import DARK, LIGHT, tones, variables
from workers.evaluation.report.scales import Closeness, Linear, Log

SIZE, SMALL = 12.0, 11.0  # of texts, in pixels
FONT = 'system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans","DejaVu Sans",sans-serif'

STYLE = Markup(
    f".plot{{font:{SIZE:g}px {FONT};font-variant-numeric:tabular-nums}}"
    f".plot text{{fill:var(--ink)}}.plot .small{{font-size:{SMALL:g}px}}.plot .muted{{fill:var(--muted)}}"
    ".plot .strong{font-weight:600}.plot .tone{fill:var(--tone)}"
    ".plot .backed{paint-order:stroke;stroke:var(--ground);stroke-width:4px;stroke-linejoin:round}"
    ".plot .grid{stroke:var(--line);stroke-width:1;shape-rendering:crispEdges}"
    ".plot .solid{fill:var(--tone)}.plot .pale{fill:var(--tone);fill-opacity:.28}"
    ".plot .hollow{fill:var(--ground);stroke:var(--tone);stroke-width:2}"
    ".plot .curve{fill:none;stroke:var(--tone);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
    ".plot .thin{fill:none;stroke:var(--tone);stroke-width:1}.plot .dashed{stroke-dasharray:5 4}"
    ".plot .mark{stroke:var(--muted);stroke-width:1;stroke-dasharray:2 3}"
    ".plot .front{fill:none;stroke:var(--muted);stroke-width:1.5;stroke-dasharray:1 4;stroke-linecap:round}"
    ".plot .ring{fill:none;stroke:var(--tone);stroke-width:2}"
    ".plot .bound{stroke:var(--fail);stroke-width:2}.plot .floor{fill:var(--muted);fill-opacity:.25}"
)

Format = Callable[[float], str]
Scale = Linear | Log | Closeness


@dataclass(frozen=True, slots=True)
class Drawing:
    """A finished plot. `alt` says in words what it shows."""

    width: float
    height: float
    alt: str
    body: Markup

    def inline(self, class_: str = "") -> Markup:
        """For a page that has STYLE and the colours."""
        return self._svg(self.body, class_)

    def standalone(self) -> str:
        """As a file of its own, which follows the reader's choice of light or dark as well."""
        style = (
            f":root{{{variables(LIGHT)}}}@media (prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}"
            f"{tones()}{STYLE}"
        )
        ground = tag("rect", width=self.width, height=self.height, rx=6, fill="var(--ground)")
        return self._svg(joined(tag("style", Markup(style)), ground, self.body), "") + "\n"

    def _svg(self, content: Markup, class_: str) -> Markup:
        return tag(
            "svg",
            content,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {self.width:g} {self.height:g}",
            width=self.width,
            height=self.height,
            class_=f"plot {class_}".strip(),
            role="img",
            aria_label=self.alt,
        )


def text(
    x: float, y: float, content: str, class_: str = "", *, anchor: str = "start", room: float | None = None
) -> Markup:
    """`y` is the baseline. A text that has no room is cut, and says all when pointed at."""
    size = SMALL if "small" in class_.split() else SIZE
    bold = 1.07 if "strong" in class_.split() else 1.0
    shown = content if room is None else fitted(content, size * bold, room)
    inside = joined(shown, tag("title", content)) if shown != content else escape(shown)
    return tag("text", inside, x=x, y=y, class_=class_ or None, text_anchor=anchor if anchor != "start" else None)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def dot(x: float, y: float, class_: str, radius: float = 5.0) -> Markup:
    return tag("circle", cx=x, cy=y, r=radius, class_=class_)


def bar(x1: float, x2: float, y: float, height: float, class_: str) -> Markup:
    left, right = sorted((x1, x2))
    return tag("rect", x=left, y=y, width=max(right - left, 1.5), height=height, rx=2, class_=class_)


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def x_axis(
    scale: Scale, bottom: float, form: Format, lanes: Sequence[tuple[float, float]], width: float, count: int = 5
) -> Markup:
    """Lines across the lanes and their values 14 pixels beneath `bottom`, within the picture's `width`, those left out
    that would touch another."""
    parts: list[Markup] = []
    free = float("-inf")
    for value in scale.ticks(count):
        x, said = scale(value), form(value)
        half = text_width(said, SMALL) / 2
        parts += [line(x, top, x, end, "grid") for top, end in lanes]
        at = min(max(x, half), width - half)
        if at - half >= free:
            parts.append(text(at, bottom + 14, said, "small muted", anchor="middle"))
            free = at + half + 4
    return joined(*parts)


def y_axis(scale: Scale, left: float, right: float, form: Format, count: int = 4) -> Markup:
    """Lines from `left` to `right`, their values before them."""
    parts: list[Markup] = []
    for value in scale.ticks(count):
        y = scale(value)
        parts.append(line(left, y, right, y, "grid"))
        parts.append(text(left - 6, y + 4, form(value), "small muted", anchor="end"))
    return joined(*parts)


def widest(texts: Sequence[str], size: float = SMALL) -> float:
    return max((text_width(one, size) for one in texts), default=0.0)
