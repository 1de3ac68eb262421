"""Shows what becomes of the workers: a live table on a terminal, plain lines elsewhere, JSON lines for a program."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from workers.engines.spec import LaunchSpec
from workers.supervisor.life import Life, State
from workers.supervisor.process import Engines

LAST_LINE_BYTES = 1024
CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[^\x20-\x7e\x80-\uffff]")  # colours, and what would move the cursor

STYLES = {
    State.STOPPED: "dim",
    State.STARTING: "yellow",
    State.READY: "green",
    State.BACKING_OFF: "red",
    State.FAILED: "bold red",
    State.STOPPING: "dim",
}


class Report(Protocol):
    def changed(self, spec: LaunchSpec, life: Life, last_words: list[str]) -> None:
        """`last_words` is from the engine's log, when it has just ended without being asked to."""
        ...

    def note(self, text: str) -> None:
        """A line about the whole."""
        ...


class JsonReport:
    """One object per change on standard output: worker, state, reason, port, log, last_words."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    def changed(self, spec: LaunchSpec, life: Life, last_words: list[str]) -> None:
        line = {
            "worker": spec.name,
            "state": life.state.value,
            "reason": life.reason,
            "port": spec.port,
            "log": str(self._engines.log(spec.name)),
            "last_words": last_words,
        }
        _write(sys.stdout, json.dumps(line))

    def note(self, text: str) -> None:
        _write(sys.stderr, text)


class LineReport:
    """A line per change, for logs and pipes."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._began: dict[str, float] = {}

    def changed(self, spec: LaunchSpec, life: Life, last_words: list[str]) -> None:
        if life.state is State.STARTING:
            self._began.setdefault(spec.name, life.since)
        took = life.since - self._began.pop(spec.name, life.since) if life.state is State.READY else None
        for line in describe(spec, life, self._engines.log(spec.name), last_words, took):
            _write(sys.stdout, line)

    def note(self, text: str) -> None:
        _write(sys.stdout, text)


class LiveReport:
    """A table that redraws itself, with what each starting engine logged last; troubles scroll by above it."""

    def __init__(self, console: Console, engines: Engines, specs: list[LaunchSpec]) -> None:
        self._console = console
        self._engines = engines
        self._rows: dict[str, tuple[LaunchSpec, Life]] = {spec.name: (spec, Life()) for spec in specs}

    def changed(self, spec: LaunchSpec, life: Life, last_words: list[str]) -> None:
        self._rows[spec.name] = (spec, life)
        if life.state in (State.BACKING_OFF, State.FAILED):
            for line in describe(spec, life, self._engines.log(spec.name), last_words, None):
                self._console.print(escape(line), highlight=False)

    def note(self, text: str) -> None:
        self._console.print(escape(text), highlight=False)

    def table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for _ in range(3):
            table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        now = time.monotonic()
        for spec, life in list(self._rows.values()):
            log = self._engines.log(spec.name)
            said = {State.STARTING: _last_line(log), State.READY: spec.url}.get(life.state, life.reason)
            state = "waiting" if life.since == 0 else life.state.value.replace("_", " ")
            age = "" if life.since == 0 else f"{now - life.since:.0f} s"
            table.add_row(spec.name, f"[{STYLES[life.state]}]{state}[/]", age, f"[dim]{escape(said)}[/]")
        return table


@contextlib.contextmanager
def reporting(form: str, engines: Engines, specs: list[LaunchSpec]) -> Generator[Report]:
    """The report that suits where it is read; `form` is auto or json."""
    console = Console()
    if form == "json":
        yield JsonReport(engines)
    elif console.is_terminal:
        live = LiveReport(console, engines, specs)
        with Live(get_renderable=live.table, console=console, refresh_per_second=4):
            yield live
    else:
        yield LineReport(engines)


def describe(spec: LaunchSpec, life: Life, log: Path, last_words: list[str], took: float | None) -> list[str]:
    """What a person needs to know of a change."""
    match life.state:
        case State.STARTING:
            return [f"{spec.name}: starting on port {spec.port}, log {log}"]
        case State.READY:
            return [f"{spec.name}: ready at {spec.url}" + ("" if took is None else f" after {took:.0f} s")]
        case State.BACKING_OFF:
            wait = 0.0 if life.deadline is None else life.deadline - life.since
            head = f"{spec.name}: {life.reason}; trying again in {wait:.1f} s"
        case State.FAILED:
            head = f"{spec.name}: {life.reason}; given up after {life.failures} tries"
        case _:
            return [f"{spec.name}: {life.state.value}"]
    if not last_words:
        return [head]
    return [head, f"  from {log}:", *(f"  | {line}" for line in last_words)]


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_LINE_BYTES))
        lines = file.read(LAST_LINE_BYTES).decode(errors="replace").strip().splitlines()
        return CONTROL.sub("", lines[-1]) if lines else ""
    return ""


def _write(stream: TextIO, line: str) -> None:
    # A reader that went away must not keep the workers from being stopped in order.
    with contextlib.suppress(BrokenPipeError):
        stream.write(line + "\n")
        stream.flush()
