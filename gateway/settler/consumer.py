"""The far end of the stream: batches out of Redis into the ledger, acknowledged when they are there.

Any number of these may run, in any processes. An entry is read by one of them, written, acknowledged to its source and
removed. One that dies leaves its entries for the others to claim; what it had written is found there by key.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.ledger.packing import Packed, Unreadable, unpack
from gateway.ledger.record import Attempt, Reading
from gateway.ledger.store import Batch, LedgerError, Store, Written
from gateway.settler.refusals import say_refused
from gateway.settler.stream import SET_ASIDE, redis_trouble
from gateway.state.redis import FAILURES
from gateway.state.stream import BatchStream, Entry

logger = logging.getLogger("tollgate.settler")

MOST_ENTRIES = 16  # in hand
MOST_ROWS = 16_384  # written in one transaction, unless an entry has more
FIRST_RETRY, LAST_RETRY = 0.1, 5.0  # seconds, doubling
CLAIM_SECONDS = 15.0  # that an entry may be with another before it is taken for dead
LOOK_SECONDS = 2.0  # between two looks for those
TIDY_SECONDS = 600.0
MOST_FAILURES = 5  # of an entry alone, while others are written, before it is set aside
IN_A_ROW = 2  # failures of single entries, after which it is rather the ledger: the others are not tried now


class ConsumerStatus(NamedTuple):
    """Counts are since the start; `lag_seconds` is the age of the stream's oldest entry."""

    batches: int = 0
    added: int = 0
    duplicates: int = 0
    refused: int = 0
    set_aside: int = 0
    claimed: int = 0
    last_error: str = ""
    lag_seconds: float = 0.0
    waiting: int = 0  # entries of the stream


@dataclass(slots=True)
class _Held:
    id: bytes
    data: bytes
    packed: Packed
    is_suspect: bool = False  # it failed alone; perhaps because everything did
    failures: int = 0  # alone, while others were written


class Consumer:
    """`open_store` is called when there is something to write, and again after it failed."""

    def __init__(
        self,
        stream: BatchStream,
        open_store: Callable[[], Store],
        *,
        claim_seconds: float = CLAIM_SECONDS,
        retries: tuple[float, float] = (FIRST_RETRY, LAST_RETRY),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = secrets.token_hex(8)
        self.status = ConsumerStatus()
        self._stream = stream
        self._open_store = open_store
        self._store: Store | None = None
        self._claim_ms = round(claim_seconds * 1000)
        self._look_seconds = min(LOOK_SECONDS, claim_seconds / 2)
        self._first_retry, self._last_retry = retries
        self._monotonic = monotonic
        self._hand: list[_Held] = []
        self._looked = self._tidied = float("-inf")
        self._figured = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; what is read and not written then is left to others."""
        retry = self._first_retry
        try:
            while not stop.is_set():
                try:
                    self.step()
                except Exception as error:
                    if not isinstance(error, LedgerError):
                        logger.exception("the consumer of the ledger's batches failed, and goes on")
                    self._say_away(str(error))
                    stop.wait(retry)
                    retry = min(2 * retry, self._last_retry)
                else:
                    self._say_back()
                    retry = self._first_retry
        finally:
            self.close()

    def step(self) -> None:
        """Reads, for a while if nothing is there, and writes. Raises LedgerError when either can not be done now; what
        is in hand stays there."""
        try:
            self._read()
            self._figure()
        except FAILURES as error:
            raise redis_trouble(self._stream, error) from error
        if self._hand:
            self._write_all()

    def close(self) -> None:
        try:
            self._stream.leave(self.name)
            self._stream.close()
        except FAILURES as error:
            logger.info("the stream of batches could not be left properly (%s)", error)
        self._drop_store()

    # Reading

    def _read(self) -> None:
        now = self._monotonic()
        if now - self._looked >= self._look_seconds and not self._hand:
            self._looked = now
            claimed = self._stream.claim(self.name, self._claim_ms, MOST_ENTRIES)
            self.status = self.status._replace(claimed=self.status.claimed + len(claimed))
            self._take(claimed)
        if now - self._tidied >= TIDY_SECONDS:
            self._tidied = now
            self._stream.dismiss_gone(self.name)
        room = MOST_ENTRIES - len(self._hand)
        if room > 0:
            self._take(self._stream.read(self.name, room, block=not self._hand))

    def _take(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            try:
                self._hand.append(_Held(entry.id, entry.data, unpack(entry.data)))
            except Unreadable as error:  # nobody's to acknowledge: its source adds it again
                self._set_aside(entry.id, entry.data, None, str(error))

    def _figure(self) -> None:
        now = self._monotonic()
        if now - self._figured < 1.0:
            return
        self._figured = now
        figures = self._stream.figures()
        lag = max(0.0, time.time() - figures.oldest_ms / 1000) if figures.oldest_ms else 0.0
        self.status = self.status._replace(waiting=figures.entries, lag_seconds=lag)

    # Writing

    def _write_all(self) -> None:
        """As many at once as go into one transaction, and one by one where that fails."""
        groups = deque(self._groups())
        failed: list[_Held] = []
        trouble: Exception | None = None
        in_a_row, is_any_written = 0, False
        while groups and in_a_row < IN_A_ROW:
            group = groups.popleft()
            try:
                self._write(group)
                in_a_row, is_any_written = 0, True
            except _Trouble as error:
                trouble = error
                if len(group) > 1:
                    groups.extendleft([held] for held in reversed(group))
                else:
                    failed += group
                    in_a_row += 1
        for held in failed:
            self._put_off(held, str(trouble), is_any_written=is_any_written)
        if trouble is not None and not is_any_written:
            raise LedgerError(str(trouble)) from trouble

    def _put_off(self, held: _Held, why: str, *, is_any_written: bool) -> None:
        """Behind the others, which are to show whether it is the ledger that fails or the entry."""
        self._hand.remove(held)
        held.is_suspect = True
        held.failures += is_any_written
        if held.failures >= MOST_FAILURES:
            self._set_aside(held.id, held.data, held.packed, why)
        else:
            self._hand.append(held)

    def _groups(self) -> list[list[_Held]]:
        """Suspects are alone."""
        groups: list[list[_Held]] = []
        rows = 0
        for held in self._hand:
            size = len(held.packed.batch.attempts)
            if not groups or held.is_suspect or groups[-1][-1].is_suspect or rows + size > MOST_ROWS:
                groups.append([])
                rows = 0
            groups[-1].append(held)
            rows += size
        return groups

    def _write(self, group: list[_Held]) -> None:
        attempts: list[Attempt] = []
        readings: list[Reading] = []
        for held in group:
            attempts += held.packed.batch.attempts
            readings += held.packed.batch.readings
        try:
            if self._store is None:
                self._store = self._open_store()
            written = self._store.write(Batch(attempts, readings))
        except Exception as error:  # what one entry does to the store must not end this
            self._drop_store()
            raise _Trouble(str(error)) from error
        for attempt, why in written.refused:
            say_refused(attempt, why)
        said: dict[str, dict[int, bytes]] = {}
        for held, counts in zip(group, _shares(group, written), strict=True):
            said.setdefault(held.packed.source, {})[held.packed.number] = b"%d %d %d" % counts
        done = {held.id for held in group}
        self._hand = [held for held in self._hand if held.id not in done]
        refused = len(written.refused)
        self.status = self.status._replace(
            batches=self.status.batches + len(group),
            added=self.status.added + written.added,
            duplicates=self.status.duplicates + len(attempts) - written.added - refused,
            refused=self.status.refused + refused,
        )
        self._acknowledge(said, list(done))

    def _acknowledge(self, said: dict[str, dict[int, bytes]], ids: list[bytes]) -> None:
        """When that fails the entries come again, or their source adds them again, and are found to be written."""
        try:
            self._stream.acknowledge(said, ids)
        except FAILURES as error:
            raise redis_trouble(self._stream, error) from error

    def _set_aside(self, id_: bytes, data: bytes, packed: Packed | None, why: str) -> None:
        logger.error(
            "a batch of the ledger can not be written and is set aside",
            extra={"fields": {"why": why, "entry": id_.decode(), "source": packed.source if packed else "unknown"}},
        )
        self.status = self.status._replace(set_aside=self.status.set_aside + 1)
        try:
            if not self._stream.set_aside(data, why):
                logger.error("too many batches are set aside: this one is not kept")
        except FAILURES as error:
            logger.warning("it could not be kept in Redis (%s)", error)
        said = {packed.source: {packed.number: SET_ASIDE}} if packed else {}
        self._acknowledge(said, [id_])

    def _drop_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _say_away(self, error: str) -> None:
        if error != self.status.last_error:
            logger.error("%s. Batches wait in Redis, and before it in the journals", error)
        self.status = self.status._replace(last_error=error)

    def _say_back(self) -> None:
        if self.status.last_error:
            logger.warning("the ledger is written again")
        self.status = self.status._replace(last_error="")


class _Trouble(Exception):
    """A write that failed, for whatever reason."""


def _shares(group: Sequence[_Held], written: Written) -> list[tuple[int, int, int]]:
    """What each batch added, had already and was refused. Which of several held the duplicates is not known: they are
    told to the first that can have had them."""
    refused_rows = {id(attempt) for attempt, _ in written.refused}
    refused = [
        sum(id(row) in refused_rows for row in held.packed.batch.attempts) if refused_rows else 0 for held in group
    ]
    left = sum(len(held.packed.batch.attempts) for held in group) - sum(refused) - written.added
    shares: list[tuple[int, int, int]] = []
    for held, lost in zip(group, refused, strict=True):
        size = len(held.packed.batch.attempts) - lost
        duplicates = min(left, size)
        left -= duplicates
        shares.append((size - duplicates, duplicates, lost))
    return shares
