"""A bill over time as a picture: what each tenant (model, ...) cost, hour by hour or day by day, idle time in grey."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from gateway.ledger.history import History

# Okabe and Ito's colours, which people tell apart whatever they see of red and green, and one more.
_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#7A5195",
    "#8C6D31",
    "#333333",
)
_GREYS = ("#C9CDD2", "#9AA1A9", "#6D747C")


def draw(history: History, path: Path) -> None:
    """Raises ImportError without matplotlib, OSError when the file can not be written."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import dates as mpl_dates
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    dates: Any = mpl_dates
    figure, axes = cast("tuple[Any, Any]", cast("Any", pyplot).subplots(figsize=(11, 5), layout="constrained"))
    times = [datetime.fromtimestamp(at, UTC) for at in history.times]
    width = history.step / 86_400 * (0.92 if len(times) < 200 else 1.0)
    floor = [0.0] * len(times)
    colours, greys = list(_COLOURS), list(_GREYS)
    for series in history.series:
        nobodys = series.name.startswith("__")
        colour = (greys.pop(0) if greys else _GREYS[-1]) if nobodys else (colours.pop(0) if colours else _COLOURS[-1])
        heights = [amount / 1e9 for amount in series.nanousd]
        total = sum(series.nanousd) / 1e9
        label = f"{_called(series.name, history.dimension)}  {_usd(total)}"
        axes.bar(times, heights, width, bottom=floor, color=colour, label=label, align="edge", linewidth=0)
        floor = [below + height for below, height in zip(floor, heights, strict=True)]
    whole = sum(sum(series.nanousd) for series in history.series) / 1e9
    each = "hour" if history.step == 3600 else "day"
    what = "cost" if history.measure == "cost_usd" else "metered cost (nothing is billed yet)"
    axes.set_title(f"{what.capitalize()} by {history.dimension}: {_usd(whole)}", loc="left", fontweight="bold")
    axes.set_ylabel(f"USD per {each}")
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    locator = dates.AutoDateLocator(tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=UTC, show_offset=False))
    until = datetime.fromtimestamp(history.times[-1] + history.step, UTC)
    axes.set_title(f"{times[0]:%Y-%m-%d} to {until:%Y-%m-%d}, UTC", loc="right", fontsize="small", color="#6D747C")
    axes.set_xlim(times[0], until)
    axes.grid(axis="y", color="#E4E7EB", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    handles, labels = axes.get_legend_handles_labels()
    # As they are stacked: what lies on top stands on top.
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, dpi=150)
    cast("Any", pyplot).close(figure)


def _called(name: str, dimension: str) -> str:
    if name.startswith("__"):
        return name.strip("_")
    return name or f"(no {dimension.removeprefix('tag:')})"


def _tick(value: float, _: object) -> str:
    return _usd(value)


def _usd(amount: float) -> str:
    if amount == 0 or amount >= 1000:
        return f"${amount:,.0f}"
    places = 2 if amount >= 0.1 else 4 if amount >= 0.001 else 9
    return f"${amount:.{places}f}"
