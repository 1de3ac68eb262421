"""How a long training says where it is: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

Report = Callable[[int, int, float], None]  # step, of how many, loss
Reporter = Callable[[str], Report]  # one per model that is trained

LINES = 20  # in a log, one line per this share of the work


@contextmanager
def progress() -> Generator[Reporter]:
    if not sys.stderr.isatty():
        yield _lines
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.2f}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns) as bars:
        yield lambda name: _bar(bars, name)


def _bar(bars: Bars, name: str) -> Report:
    task = bars.add_task(name, total=None, loss=0.0)

    def report(step: int, steps: int, loss: float) -> None:
        bars.update(task, completed=step, total=steps, loss=loss)

    return report


def _lines(name: str) -> Report:
    def report(step: int, steps: int, loss: float) -> None:
        if step % max(1, steps // LINES) == 0:
            print(f"{name}: step {step} of {steps}, loss {loss:.2f}", file=sys.stderr, flush=True)

    return report
