"""The outcome of a bench: a table for people, JSON for programs, a plot for both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.figures import Figure, Number
from loadtests.stats import Spread
from loadtests.targets import Values, Verdict


def cell(spread: Spread, unit: str) -> str:
    """The median and half the range beside it; a dash for what was not measured."""
    if math.isnan(spread.median):
        return "–"
    noise = f" ±{spread.noise:.0%}" if spread.runs > 1 else ""
    return f"{number(spread.median)}{' ' + unit if unit else ''}{noise}"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bound(verdict: Verdict) -> str:
    """What was wanted, what was found, and whether that will do."""
    found = cell(verdict.spread, verdict.goal.unit) + " " if verdict.spread.runs else ""
    return f"{verdict.goal.text}: {found}{verdict.outcome}"


def print_table(
    console: Console,
    figures: Sequence[Figure],
    targets: Sequence[str],
    values: Values,
    verdicts: Sequence[Verdict],
) -> None:
    table = Table(title="median of the repetitions ± half their range", title_justify="left")
    table.add_column("figure")
    for name in targets:
        table.add_column(name, justify="right")
    table.add_column("target (tollgate)")
    for figure in figures:
        for one in figure.numbers:
            cells = [cell(Spread.of(values.get((figure.key, one.key, name), ())), one.unit) for name in targets]
            wanted = [bound(v) for v in verdicts if (v.goal.figure, v.goal.number) == (figure.key, one.key)]
            table.add_row(f"{figure.title}: {one.title}", *cells, "\n".join(wanted))
    console.print(table)


def print_reasons(
    console: Console, figures: Sequence[Figure], verdicts: Sequence[Verdict], reasons: Mapping[str, str]
) -> None:
    """Why something is missing from the table."""
    titles = {figure.key: figure.title for figure in figures}
    unjudged = {f"{titles[v.goal.figure]}, {v.goal.text}": f"{v.outcome}: {v.why}" for v in verdicts if v.why}
    for name, reason in {**reasons, **unjudged}.items():
        console.print(f"{name}: {reason}", markup=False, highlight=False)


def write_json(path: Path, document: Mapping[str, object]) -> None:
    path.write_text(json.dumps(document, indent=1, default=str) + "\n")


def plot(path: Path, figures: Sequence[Figure], targets: Sequence[str], values: Values) -> str | None:
    """One panel per number; a reason when there is nothing to plot with."""
    try:
        import matplotlib
    except ImportError:
        return "no plot: matplotlib is missing (pip install matplotlib)"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [(figure, one) for figure in figures for one in figure.numbers]
    columns = 3
    rows = math.ceil(len(panels) / columns)
    drawing: Any
    axes: Any
    drawing, axes = pyplot.subplots(rows, columns, figsize=(4.6 * columns, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (figure, one) in zip(axes.flat, panels, strict=False):
        _panel(axis, figure, one, targets, values)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    pyplot.close(drawing)
    return None


def _panel(axis: Any, figure: Figure, one: Number, targets: Sequence[str], values: Values) -> None:
    spreads = {name: Spread.of(values.get((figure.key, one.key, name), ())) for name in targets}
    shown = {name: spread for name, spread in spreads.items() if spread.runs}
    names = list(shown)[::-1]
    medians = [shown[name].median for name in names]
    below = [max(0.0, shown[name].median - shown[name].low) for name in names]
    above = [max(0.0, shown[name].high - shown[name].median) for name in names]
    colours = ["#c8553d" if name == "tollgate" else "#8a9ba8" for name in names]
    axis.barh(names, medians, xerr=[below, above], color=colours, height=0.65)
    unit = f" ({one.unit})" if one.unit else ""
    axis.set_title(f"{figure.title}: {one.title}{unit}, {one.better} is better", fontsize=7.5)
    axis.tick_params(labelsize=7.5)
    axis.spines[["top", "right"]].set_visible(False)
