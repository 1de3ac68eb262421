"""The configuration directory over time: a valid change is put into effect, an invalid one is told and leaves the old.

The directory's names, times and sizes are compared twice a second. A change is read once nothing has changed for one
more poll, since a file caught between two writes may be valid and still be half of what was meant; a directory that
never rests is read all the same after `PATIENCE` polls. What is invalid is read once more at the next poll before
anyone is told. So a valid change takes effect within 1 s of its last write and an error shows within 1.5 s, and the
time it takes to read the directory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.config.load import Outcome, examine
from gateway.config.problems import Problem
from gateway.config.source import Fingerprint, fingerprint
from gateway.table import Settings, Table

SECONDS_BETWEEN_POLLS = 0.5
PATIENCE = 2  # polls a directory may go on changing before it is read as it is

_log = logging.getLogger("tollgate.config")


@dataclass(frozen=True, slots=True)
class WatchState:
    """What `/admin/v1/config`, the metrics and the log say of the configuration."""

    revision: str  # in effect
    loaded_at: float  # Unix seconds
    reloads: int = 0  # valid changes since the start
    failures: int = 0  # invalid ones
    last_error: tuple[Problem, ...] = ()  # why what lies on disk now is not in effect; empty when it is
    last_error_at: float | None = None
    warnings: tuple[Problem, ...] = ()  # of what was last read
    needs_restart: tuple[str, ...] = ()  # top-level keys changed since the start that only a restart puts into effect


class Watcher:
    """Watches one directory. `on_table` gets every valid new table, in the event loop that `run` runs in.

    `first` is the table the process started with; what changed between its reading and now is found at the first poll.
    """

    def __init__(
        self,
        directory: Path,
        on_table: Callable[[Table], None],
        first: Table,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._on_table = on_table
        self._environ = environ
        self._clock = clock
        self._started_with = first.settings
        self._seen: Fingerprint = ()  # at the last poll
        self._read: Fingerprint = ()  # when the directory was last read
        self._restless = 0  # polls in a row that saw a change
        self._suspect = False  # the last reading failed and is to be repeated before it is told
        self.state = self._before = WatchState(revision=first.revision, loaded_at=clock())

    async def run(self) -> None:
        """Polls until cancelled. The disk and the parsing are left to a thread."""
        while True:
            try:
                table = await asyncio.to_thread(self.poll)
            except Exception:  # a fault of this package's own must not end the watch, nor the gateway
                _log.exception("the configuration could not be examined, %s stays in effect", self.state.revision)
            else:
                if table is not None:
                    self.apply(table)
            await asyncio.sleep(SECONDS_BETWEEN_POLLS)

    def poll(self) -> Table | None:
        """One look at the directory. Returns a table when a new one is to take effect."""
        now = fingerprint(self._directory)
        changing = now != self._seen
        self._seen = now
        if now == self._read and not self._suspect:
            self._restless = 0
            return None
        if changing and self._restless < PATIENCE:
            self._restless += 1
            return None
        self._restless = 0
        outcome = examine(self._directory, self._environ)
        if fingerprint(self._directory) != now:
            return None  # written to while it was read: look again
        self._read = now
        return self._judge(outcome)

    def apply(self, table: Table) -> None:
        """Hands a table that `poll` returned to `on_table`. Should that fail, the old one counts as in effect."""
        try:
            self._on_table(table)
        except Exception as error:  # whatever it is that fails to change over, the gateway serves on as it was
            _log.exception("configuration %s could not be put into effect", table.revision)
            message = f"could not be put into effect ({error!r}): see the log, or restart the gateway"
            self.state = replace(
                self._before,
                failures=self._before.failures + 1,
                last_error=(Problem(str(self._directory), 1, message),),
                last_error_at=self._clock(),
            )
            return
        _log.info("configuration %s is in effect, after %s", table.revision, self._before.revision)
        if self.state.needs_restart:
            _log.warning("changed, but only in effect after a restart: %s", ", ".join(self.state.needs_restart))

    def _judge(self, outcome: Outcome) -> Table | None:
        state = self.state
        problems = tuple(outcome.problems)
        if outcome.table is None:
            if not self._suspect:
                self._suspect = True
                return None
            self._suspect = False
            if problems != state.last_error:
                self._refuse(problems)
            return None
        self._suspect = False
        self._before = state
        changed = outcome.revision != state.revision
        self.state = WatchState(
            revision=outcome.revision,
            loaded_at=self._clock() if changed else state.loaded_at,
            reloads=state.reloads + changed,
            failures=state.failures,
            warnings=problems,
            needs_restart=_fixed_at_start(self._started_with, outcome.table.settings),
        )
        if problems != state.warnings:  # also those of what the process started with, once
            _tell(problems)
        return outcome.table if changed else None

    def _refuse(self, problems: tuple[Problem, ...]) -> None:
        self.state = replace(
            self.state, failures=self.state.failures + 1, last_error=problems, last_error_at=self._clock()
        )
        _log.error("the configuration on disk is refused, %s stays in effect", self.state.revision)
        _tell(problems)


def _tell(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        _log.log(logging.ERROR if problem.severity == "error" else logging.WARNING, "%s", problem)


def _fixed_at_start(then: Settings, now: Settings) -> tuple[str, ...]:
    """The keys whose change needs a restart: where the process listens, keeps things and sends its spans."""
    metering, decisions = now.metering, now.decisions  # which lie beside the ledger, and need not be named twice
    if then.ledger != now.ledger:
        decisions = replace(decisions, directory=then.decisions.directory)
        metering = replace(metering, journal=then.metering.journal)
    pairs = (
        ("server", then.server, now.server),
        ("state", then.state, now.state),
        ("ledger", then.ledger, now.ledger),
        ("metering", then.metering, metering),
        ("decisions", then.decisions, decisions),
        ("cache.max_memory_mb", then.cache.max_memory_bytes, now.cache.max_memory_bytes),
        ("telemetry", then.otlp_endpoint, now.otlp_endpoint),
    )
    return tuple(key for key, before, after in pairs if before != after)
