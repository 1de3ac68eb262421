"""The ledger as the gateway sees it: `record` and forget.

`record` puts an attempt into a bounded queue and returns. One thread empties the queue into the store, a transaction
per batch, and keeps trying while the store is locked, full, read-only or away. What finds the queue full is lost to the
store, and then stands in the log, whole.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from contextlib import closing, suppress
from threading import Event, Thread
from typing import NamedTuple

from gateway.ledger.location import sqlite_path
from gateway.ledger.record import Attempt
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import LedgerError, Store

logger = logging.getLogger(__name__)

CAPACITY = 100_000  # attempts that wait at most: about 100 MB
ROWS_PER_BATCH = 4_096
GATHER_SECONDS = 0.05  # how long a batch gathers: long enough to save transactions, short enough to lose little
FIRST_RETRY, LAST_RETRY = 0.1, 5.0  # seconds, doubling


class Stats(NamedTuple):
    """`lag_seconds` is how long the oldest attempt that is not yet in the store has waited, at most."""

    queued: int
    written: int
    duplicates: int
    dropped: int
    last_error: str  # "" when the last batch went through
    lag_seconds: float


def open_ledger(url: str) -> Ledger:
    """The ledger of gateway.yaml's `ledger:`, or LedgerError saying what is wrong with it."""
    return Ledger(SqliteStore(sqlite_path(url)))


class Ledger:
    def __init__(self, store: Store, *, capacity: int = CAPACITY, first_retry: float = FIRST_RETRY) -> None:
        self._store = store
        self._capacity = capacity
        self._first_retry = first_retry
        self._queue: deque[Attempt | Event] = deque()  # an Event asks to be told when all before it is written
        self._queued_since = 0.0
        self._work = Event()  # the queue is not empty
        self._hurry = Event()  # do not wait for a batch to gather
        self._closing = Event()
        self._deadline = 0.0  # of closing
        self._overflowed = 0  # counted by callers of record
        # The thread's own, read by stats.
        self._batch: list[Attempt] = []
        self._batch_since = 0.0
        self._written = self._duplicates = self._refused = 0
        self._last_error = ""
        self._writer = Thread(target=self._run, name="ledger", daemon=True)
        self._writer.start()

    def record(self, attempt: Attempt) -> None:
        """Take an attempt into the books. Never waits and never fails."""
        queue = self._queue
        if len(queue) >= self._capacity or self._closing.is_set():
            self._overflowed += 1
            _lose(attempt, "the ledger is closed" if self._closing.is_set() else "the ledger's queue is full")
            return
        if not queue:
            self._queued_since = time.monotonic()
        queue.append(attempt)
        if not self._work.is_set():
            self._work.set()

    def spent(self, tenant: str, since: float) -> int:
        """Nano-USD a tenant's attempts since a Unix time have cost, as far as they are written. Reads the store."""
        return self._store.spent(tenant, since)

    def flush(self, timeout: float) -> bool:
        """Wait until all that was recorded before is in the store; False when that takes longer. Blocks the caller."""
        written = Event()
        self._queue.append(written)
        self._hurry.set()
        self._work.set()
        return written.wait(timeout)

    def close(self, timeout: float) -> bool:
        """Write what is queued and stop; what can not be written in time goes to the log. Blocks the caller.

        True when nothing was lost. Attempts recorded afterwards are lost.
        """
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._hurry.set()
        self._work.set()
        self._writer.join(timeout)
        waiting: list[Attempt | Event] = []
        with suppress(IndexError):
            while True:  # a thread that is stuck in the store still shares the queue
                waiting.append(self._queue.popleft())
        lost = [item for item in (*self._batch, *waiting) if isinstance(item, Attempt)]
        self._overflowed += len(lost)
        for attempt in lost:
            _lose(attempt, "the ledger could not be written before the gateway stopped")
        return not lost

    @property
    def stats(self) -> Stats:
        queued = len(self._batch) + len(self._queue)
        since = self._batch_since if self._batch else self._queued_since
        return Stats(
            queued=queued,
            written=self._written,
            duplicates=self._duplicates,
            dropped=self._overflowed + self._refused,
            last_error=self._last_error,
            lag_seconds=max(0.0, time.monotonic() - since) if queued else 0.0,
        )

    def _run(self) -> None:
        with closing(self._store):
            while not (self._closing.is_set() and not self._queue):
                self._work.wait()
                self._hurry.wait(GATHER_SECONDS)
                self._work.clear()
                self._hurry.clear()
                flushes = self._take()
                if not self._write():
                    return
                for flush in flushes:
                    flush.set()

    def _take(self) -> list[Event]:
        """Move a batch from the queue into hand; the flushes that wait for it."""
        self._batch_since = self._queued_since
        batch: list[Attempt] = []
        self._batch = batch
        flushes: list[Event] = []
        queue = self._queue
        while queue and len(batch) < ROWS_PER_BATCH:
            item = queue.popleft()
            if isinstance(item, Event):
                flushes.append(item)
            else:
                batch.append(item)
        if queue:
            self._hurry.set()
            self._work.set()
        return flushes

    def _write(self) -> bool:
        """Write the batch in hand, however often that takes; False when closing ran out of time."""
        retry = self._first_retry
        while self._batch:
            try:
                written = self._store.write(self._batch)
            except LedgerError as error:
                self._say_away(str(error))
                if self._closing.is_set():
                    if time.monotonic() >= self._deadline:
                        return False
                    time.sleep(self._first_retry)  # closing is set, so there is nothing left to wait on
                else:
                    self._closing.wait(retry)
                    retry = min(2 * retry, LAST_RETRY)
            else:
                self._say_back()
                self._written += written.added
                self._duplicates += len(self._batch) - written.added - len(written.refused)
                self._refused += len(written.refused)
                self._batch = []
                for attempt, why in written.refused:
                    _lose(attempt, f"the store does not take it ({why})")
        return True

    def _say_away(self, error: str) -> None:
        if error != self._last_error:
            logger.error("%s. Attempts wait in memory, at most %d of them", error, self._capacity)
        self._last_error = error

    def _say_back(self) -> None:
        if self._last_error:
            logger.warning("the ledger is written again; %d attempts waited", len(self._batch) + len(self._queue))
        self._last_error = ""


def _lose(attempt: Attempt, why: str) -> None:
    """Say what is lost so that it can be entered by hand: all of it, on one line."""
    logger.error("attempt lost, %s: %s", why, json.dumps(attempt._asdict(), default=repr))
