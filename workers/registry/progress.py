"""How far a command is through bytes that it reads or copies."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from workers.registry.digest import Advance, unheard

WORTH_A_BAR = 200_000_000  # bytes


@contextmanager
def shown(label: str, total: int) -> Generator[Advance]:
    """A bar on a terminal, one line in a log, nothing where it takes no time."""
    if total < WORTH_A_BAR:
        yield unheard
        return
    if not sys.stderr.isatty():
        print(f"{label} ({total / 1e9:.1f} GB)", file=sys.stderr)
        yield unheard
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)

        def advance(count: int) -> None:
            progress.advance(task, count)

        yield advance


def size(paths: Iterable[Path]) -> int:
    """Bytes of these files together; one that cannot be looked at counts nothing."""
    total = 0
    for path in paths:
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total
