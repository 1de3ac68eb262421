"""Where a long measurement is: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

LINE_EVERY = 15.0  # seconds; in a log, a stage says no more often where it is

Done = Callable[[], None]


class Progress(Protocol):
    def stage(self, name: str, steps: int) -> Done:
        """A stretch of work of so many steps; what is returned is called after each."""
        ...

    def note(self, text: str) -> None: ...


@contextmanager
def progress() -> Generator[Progress]:
    if not sys.stderr.isatty():
        yield Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield OnTerminal(bars)


class OnTerminal:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    def stage(self, name: str, steps: int) -> Done:
        task = self._bars.add_task(name, total=steps)
        return lambda: self._bars.advance(task)

    def note(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)


class Lines:
    def stage(self, name: str, steps: int) -> Done:
        began = said = time.monotonic()
        count = 0

        def done() -> None:
            nonlocal count, said
            count += 1
            now = time.monotonic()
            if count == steps or now - said >= LINE_EVERY:
                said = now
                self.note(f"{name}: {count} of {steps} after {now - began:.0f} s")

        return done

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
