"""The outcome of one measurement: a table for people, JSON for programs, a plot for both."""

from __future__ import annotations

import json
import math
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.run import Run
from loadtests.stats import QUANTILES, Latency, percentile

_DRAWN = (".png", ".svg", ".pdf")
_DOTS = 20_000  # more would not be told apart
_NO_MATPLOTLIB = "no plot: matplotlib is missing (pip install matplotlib)"


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--format", choices=["table", "json"], default="table", help="of what is printed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the results there too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draws them there (PNG, SVG or PDF by its name)")


def check_options(asked: Namespace) -> None:
    """Raises ValueError for a file that could not be written at the end, before there is anything to write."""
    for option, path in (("--json", asked.json), ("--plot", asked.plot)):
        if path is None:
            continue
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise ValueError(f"{option}: {path} cannot be written: name a file in a directory that is there")
    if asked.plot is not None and asked.plot.suffix.lower() not in _DRAWN:
        raise ValueError(f"--plot: {asked.plot} must end in {', '.join(_DRAWN)}")


def tell(run: Run, asked: Namespace, about: dict[str, object]) -> int:
    """Prints and writes what was asked for; gives the exit status: 1 when a request failed."""
    document = json.dumps(about | run.document(), indent=1)
    if asked.format == "json":
        print(document)
    else:
        print_table(Console(width=None if sys.stdout.isatty() else 120), run)
    if asked.json is not None:
        asked.json.write_text(document + "\n")
    if asked.plot is not None and (problem := plot(asked.plot, run)):
        print(problem, file=sys.stderr)
    return 1 if run.errors else 0


def print_table(console: Console, run: Run) -> None:
    table = Table(title="milliseconds, with 95 % confidence", title_justify="left")
    for name in ("", "count", "mean", "p50", "p90", "p99", "p99.9", "max"):
        table.add_column(name, justify="left" if not name else "right")
    for title, latency in _distributions(run):
        cells = (_with_interval(latency, name) for name in QUANTILES)
        table.add_row(title, f"{latency.count:,}", _ms(latency.mean), *cells, _ms(latency.maximum))
    if table.row_count:
        console.print(table)
    for line in lines(run):
        console.print(line, markup=False, highlight=False)


def lines(run: Run) -> list[str]:
    """Counts and costs."""
    said = [f"{run.requests:,} requests in {run.seconds:.1f} s: {run.requests_per_second:,.1f} a second"]
    if run.events:
        said.append(f"{run.events:,} events: {run.events_per_second:,.0f} a second")
    if run.tokens:
        prompt, cached, made = (run.tokens[f"{kind}_tokens"] for kind in ("prompt", "cached", "completion"))
        rate = f", {made / run.seconds:,.0f} a second" if run.seconds else ""
        said.append(f"{prompt:,} prompt tokens, {cached:,} of them cached; {made:,} generated{rate}")
    said += [f"failed: {count:,} × {error}" for error, count in run.errors.most_common()]
    if run.cpu_seconds is not None:
        each = f", {run.cpu_seconds / run.requests * 1e6:,.0f} µs a request" if run.requests else ""
        said.append(f"CPU of the process under test: {run.cpu_seconds:.2f} s{each}")
    if run.rss_before is not None and run.rss_after is not None:
        said.append(f"its memory: {run.rss_after / 1e6:,.0f} MB, {run.rss_before / 1e6:,.0f} MB at the start")
    return said


def plot(path: Path, run: Run) -> str | None:
    """Every distribution by its percentiles, and the latency of each request over time; a reason when it can not."""
    try:
        import matplotlib
    except ImportError:
        return _NO_MATPLOTLIB
    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawing: Any
    axes: Any
    drawing, axes = pyplot.subplots(1, 2, figsize=(11, 4))
    _percentiles(axes[0], run)
    step = max(1, math.ceil(len(run.starts) / _DOTS))
    milliseconds = [seconds * 1e3 for seconds in run.latencies[::step]]
    axes[1].plot(run.starts[::step], milliseconds, ".", markersize=2, color="#c8553d")
    axes[1].set_title("latency (ms) of the request due at second …", fontsize=9)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    pyplot.close(drawing)
    return None


def _percentiles(axis: Any, run: Run) -> None:
    """On an axis that gives every nine the same room."""
    nines = [step / 50 for step in range(201)]  # 0 is the median's side, 4 the 99.99th percentile
    for (title, _), samples in zip(_distributions(run), _samples(run), strict=True):
        ordered = sorted(samples)
        shown = [nine for nine in nines if 10**nine <= len(ordered)]
        axis.plot(shown, [percentile(ordered, 1 - 10**-nine) * 1e3 for nine in shown], label=title, linewidth=1)
    axis.set_xticks(range(5), ["0", "90", "99", "99.9", "99.99"])
    axis.set_title("milliseconds by percentile", fontsize=9)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, frameon=False)


def _distributions(run: Run) -> list[tuple[str, Latency]]:
    """Those that were measured."""
    named = (("answer complete", run.latency), ("first byte of the body", run.first), ("between events", run.gap))
    return [(title, latency) for title, latency in named if latency.count]


def _samples(run: Run) -> list[Any]:
    return [samples for samples in (run.latencies, run.firsts, run.gaps) if samples]


def _with_interval(latency: Latency, name: str) -> str:
    low, high = latency.intervals[name]
    return f"{_ms(getattr(latency, name))} ({_ms(low)}–{_ms(high)})"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}"
