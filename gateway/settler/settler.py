"""From journals to the database: everything once, whatever dies meanwhile.

A batch is read, put, and only what the far end says is in the database lets a segment go. Whoever starts again reads
what is left from its beginning; rows that are there already are skipped by their key.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import NamedTuple

from gateway.ledger.journal.reader import journals
from gateway.ledger.record import Attempt, Reading
from gateway.ledger.store import Batch, LedgerError, Sink
from gateway.settler.progress import Progress
from gateway.settler.source import Source
from gateway.settler.status import Status

logger = logging.getLogger("tollgate.settler")

ROWS_PER_BATCH = 4_096
FIRST_RETRY, LAST_RETRY = 0.1, 5.0  # seconds, doubling
LOOK_SECONDS = 1.0  # between two looks for journals of processes that are new or gone
LAGS, LAGS_PER_BATCH = 2_000, 20  # of the latest attempts, for percentiles


class _Waiting(NamedTuple):
    """A batch that is put and not yet in the database."""

    batch: int
    began: float  # the earliest beginning of an attempt in it, Unix seconds
    ended: float  # and the earliest end
    attempts: int


class Settler:
    """One directory of journals. `step` again and again, from one thread."""

    def __init__(
        self,
        root: Path,
        sink: Sink,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._sink = sink
        self._clock = clock
        self._monotonic = monotonic
        self._sources: dict[str, Source] = {}
        self._dying: dict[str, int] = {}  # a dead one whose end is read -> the batch it ends with
        self._looked = float("-inf")
        self._batch: Batch | None = None  # that could not be put yet
        self._fed: list[Source] = []  # whose records are in it
        self._number = 0  # of the last batch
        self._retry = 0.0
        self._retry_at = 0.0
        self._last_error = ""
        self._crashed = self._damaged = 0
        self._waiting: deque[_Waiting] = deque()
        self._known: set[str] = set()  # the names of all journals it has met
        self._read_through = 0.0  # Unix seconds: what was appended before is read
        self._lags: deque[float] = deque(maxlen=LAGS)

    def step(self) -> bool:
        """Reads and puts one batch; True when there was something, so that another may follow at once."""
        now = self._monotonic()
        if now < self._retry_at:
            return False
        try:
            self._settle()
            if self._batch is None:
                if now - self._looked >= LOOK_SECONDS:
                    self._looked = now
                    self._look()
                self._batch, self._fed = self._read()
            if self._batch is None:
                self._say_back()
                return False
            self._put(self._batch)
        except LedgerError as error:
            self._say_away(str(error))
            return False
        self._say_back()
        return True

    @property
    def is_idle(self) -> bool:
        """Everything that was read is in the database, and nobody died whose journal is still there."""
        return self._batch is None and not self._waiting and not self._dying

    def look_now(self) -> None:
        """The next step looks for new and dead processes first."""
        self._looked = float("-inf")

    @property
    def progress(self) -> Progress:
        began = [one for source in self._sources.values() if (one := source.earliest) is not None]
        began += [one.began for one in self._waiting]
        if self._batch is not None:
            began.append(_waits(0, self._batch).began)
        return Progress(min([*began, self._read_through - 2 * LOOK_SECONDS]), frozenset(self._known))

    @property
    def status(self) -> Status:
        lags = sorted(self._lags)
        waiting = list(self._waiting)
        if self._batch is not None and self._batch.attempts:
            waiting.append(_waits(0, self._batch))
        oldest = min((one.ended for one in waiting), default=0.0)
        now, counts = self._clock(), self._sink.counts
        return Status(
            at=now,
            settled=counts.added,
            duplicates=counts.duplicates,
            refused=counts.refused,
            crashed=self._crashed,
            damaged=self._damaged + sum(source.tail.damaged for source in self._sources.values()),
            waiting=sum(one.attempts for one in waiting),
            lag_seconds=max(0.0, now - oldest) if oldest else 0.0,
            settle_p50=lags[len(lags) // 2] if lags else 0.0,
            settle_p99=lags[len(lags) * 99 // 100] if lags else 0.0,
            last_error=self._last_error,
            journals={source.name: source.settled for source in self._sources.values()},
        )

    def close(self) -> None:
        self._sink.close()

    # Reading

    def _look(self) -> None:
        """For journals that are new, and for those whose writer is dead: what it left open is settled for it."""
        for name in journals(self._root):
            if name not in self._sources:
                self._sources[name] = Source(self._root / name)
                self._known.add(name)

    def _read(self) -> tuple[Batch | None, list[Source]]:
        attempts: list[Attempt] = []
        readings: list[Reading] = []
        fed: list[Source] = []
        trouble: LedgerError | None = None
        now, is_whole = self._clock(), True
        for source in list(self._sources.values()):
            before = len(attempts) + len(readings)
            is_dead = exhausted = False
            try:
                is_dead = source.name not in self._dying and source.tail.is_dead()  # asked first, then read to the end
                exhausted = source.read(attempts, readings, ROWS_PER_BATCH)
            except LedgerError as error:  # what was read of it before is settled, the rest when it can be read
                trouble = error
            if is_dead and exhausted:
                crashed = source.crashed()
                if crashed:
                    logger.warning(
                        "attempts of a killed gateway are settled at their last checkpoint",
                        extra={"fields": {"journal": source.name, "count": len(crashed)}},
                    )
                attempts += crashed
                self._crashed += len(crashed)
                self._dying[source.name] = self._number + 1
            if len(attempts) + len(readings) > before or (is_dead and exhausted):
                fed.append(source)
            is_whole = is_whole and exhausted
            if len(attempts) + len(readings) >= ROWS_PER_BATCH:
                is_whole = False
                break
        if is_whole:
            self._read_through = now
        if not fed:
            if trouble is not None:
                raise trouble
            return None, []
        return Batch(attempts, readings), fed

    # Writing

    def _put(self, batch: Batch) -> None:
        number = self._sink.put(batch) if batch.attempts or batch.readings else self._number
        self._number = max(self._number, number)
        for source in self._fed:
            source.put(number)
            if source.name in self._dying:
                self._dying[source.name] = number
        self._batch, self._fed = None, []
        if batch.attempts:
            self._waiting.append(_waits(number, batch))
        self._settle()

    def _settle(self) -> None:
        """Lets go of what is in the database."""
        settled = self._sink.settled()
        now = self._clock()
        while self._waiting and self._waiting[0].batch <= settled:
            one = self._waiting.popleft()
            self._lags.extend([max(0.0, now - one.ended)] * min(one.attempts, LAGS_PER_BATCH))
        for source in list(self._sources.values()):
            source.release(settled)
            if self._dying.get(source.name, settled + 1) <= settled and source.is_settled(settled):
                self._damaged += source.tail.damaged
                source.tail.remove()
                del self._sources[source.name], self._dying[source.name]

    def _say_away(self, error: str) -> None:
        if error != self._last_error:
            logger.error("%s. Records wait in the journal", error)
        self._last_error = error
        self._retry = min(2 * self._retry or FIRST_RETRY, LAST_RETRY)
        self._retry_at = self._monotonic() + self._retry

    def _say_back(self) -> None:
        if self._last_error:
            logger.warning("the ledger is written again")
        self._last_error, self._retry, self._retry_at = "", 0.0, 0.0


def _waits(number: int, batch: Batch) -> _Waiting:
    """`number` is 0 for one that is not put yet."""
    began = ended = inf
    for one in batch.attempts:
        opened, over = one.opened_at, one.opened_at + one.duration_seconds
        if opened < began:
            began = opened
        if over < ended:
            ended = over
    return _Waiting(number, began, ended, len(batch.attempts))
