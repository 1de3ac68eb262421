"""The outcome of a simulation: a table for people, JSON for programs, a plot for both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.simulate.figures import Result
from loadtests.stats import percentile

_OURS = "tollgate"
_COLOURS = ("#8a9ba8", "#3d6c8c", "#7fa650", "#b08bbf", "#d9a441", "#5b5b5b", "#5bb5b0", "#a0685a", "#c0c0c0")
_INTERVALS = 60  # of the time axis


def print_table(console: Console, title: str, results: Sequence[Result], beside: str) -> None:
    """Each policy's means; the differences are to the policy `beside`."""
    table = Table(title=title, title_justify="left")
    answers = any(one.all.answer_mean != one.all.ttft_mean for one in results)
    names = ["policy", "prefix hit", "TTFT mean s", "p50", "p90", "p99"]
    reference = next((one.all for one in results if one.policy == beside), None)
    if reference is not None:
        names += ["mean Δ", "p90 Δ"]
    names += ["answer s"] if answers else []
    names += ["busiest", "retried", "lost"]
    for name in names:
        table.add_column(name, justify="left" if name == "policy" else "right", no_wrap=name == "policy")
    for result in results:
        one = result.all
        cells = [result.policy, f"{one.prefix_hit:.1%}"]
        cells += [_seconds(value) for value in (one.ttft_mean, one.ttft_p50, one.ttft_p90, one.ttft_p99)]
        if reference is not None:
            cells += [_change(one.ttft_mean, reference.ttft_mean), _change(one.ttft_p90, reference.ttft_p90)]
        cells += [_seconds(one.answer_mean)] if answers else []
        cells += [f"{one.busiest:.2f} ×", f"{one.retried:,.0f}", f"{one.unanswered:,.0f}"]
        table.add_row(*cells, style="bold" if result.policy == _OURS else None)
    console.print(table)
    if reference is not None:
        console.print(f"Δ: to {beside}. busiest: requests of the worker with most, to the average.", markup=False)


def print_tenants(console: Console, results: Sequence[Result]) -> None:
    """Mean seconds to the first token of each tenant."""
    tenants = sorted({tenant for one in results for tenant in one.all.tenants}, key=lambda name: (len(name), name))
    table = Table(title="TTFT mean s by tenant, the one with most traffic first", title_justify="left")
    table.add_column("policy")
    for tenant in tenants:
        table.add_column(tenant, justify="right")
    for one in results:
        means = one.all.tenants
        table.add_row(one.policy, *(_seconds(means.get(tenant, math.nan)) for tenant in tenants))
    console.print(table)


def document(about: Mapping[str, object], results: Sequence[Result]) -> str:
    return json.dumps({**about, "policies": [one.document() for one in results]}, indent=1, sort_keys=True)


def plot(path: Path, results: Sequence[Result]) -> str | None:
    """Time to first token of the first seed, by percentile and over time; a reason when it can not."""
    try:
        import matplotlib
    except ImportError:
        return "no plot: matplotlib is missing (pip install matplotlib)"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawing: Any
    axes: Any
    drawing, axes = pyplot.subplots(1, 2, figsize=(12, 4.5))
    for place, one in enumerate(results):
        look: dict[str, Any] = {"color": _COLOURS[place % len(_COLOURS)], "linewidth": 1, "label": one.policy}
        if one.policy == _OURS:
            look |= {"color": "#c8553d", "linewidth": 2}
        ordered = sorted(first for _, first in one.firsts)
        nines = [step / 50 for step in range(201) if 10 ** (step / 50) <= len(ordered)]
        axes[0].plot(nines, [percentile(ordered, 1 - 10**-nine) for nine in nines], **look)
        axes[1].plot(*_over_time(one.firsts), **look)
    axes[0].set_xticks(range(5), ["0", "90", "99", "99.9", "99.99"])
    axes[0].set_title("time to first token (s) by percentile", fontsize=9)
    axes[1].set_title("its mean (s) over the minutes of the trace", fontsize=9)
    for axis in axes:
        axis.set_yscale("log")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    if results:
        axes[0].legend(fontsize=8, frameon=False)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    pyplot.close(drawing)
    return None


def _over_time(firsts: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Minutes, and the mean of those that came around then."""
    width = max((at for at, _ in firsts), default=0.0) / _INTERVALS or 1.0
    sums: dict[int, list[float]] = {}
    for at, first in firsts:
        sums.setdefault(int(at / width), []).append(first)
    places = sorted(sums)
    return [(place + 0.5) * width / 60 for place in places], [fmean(sums[place]) for place in places]


def _seconds(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _change(value: float, reference: float) -> str:
    if math.isnan(value) or not reference > 0:
        return "–"
    return f"{value / reference - 1:+.1%}"
