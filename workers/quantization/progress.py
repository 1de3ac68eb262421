"""How long work says where it is: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

QUIET = 10.0  # seconds between two lines of a stage in a log

Report = Callable[[str, int, int], None]  # stage, steps done, of how many
T = TypeVar("T")


@contextmanager
def progress(terminal: bool | None = None) -> Generator[Report]:
    """Something to say the state of a stage to. `terminal` is whether stderr is one."""
    if not (sys.stderr.isatty() if terminal is None else terminal):
        yield lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, of: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=of)
            bars.update(tasks[stage], completed=done, total=of)

        yield report


def followed(items: Iterable[T], report: Report, stage: str, of: int, done: int = 0) -> Iterator[T]:
    """The items, each reported when it is done; `done` of them were before."""
    report(stage, done, of)
    for number, item in enumerate(items, done + 1):
        yield item
        report(stage, number, of)


def lines(now: Callable[[], float] = time.monotonic) -> Report:
    """One line when a stage begins, when it is done, and now and then between."""
    said: dict[str, float] = {}

    def report(stage: str, done: int, of: int) -> None:
        if stage not in said or done == of or now() - said[stage] >= QUIET:
            said[stage] = now()
            print(f"{stage}: {done} of {of}", file=sys.stderr, flush=True)

    return report
