"""A sink that is a stream in Redis, whose far end writes the ledger: what is put is settled when that end says so.

Redis may lose anything at any time (it is emptied, evicts, fails over to a copy that lags behind). A batch that is not
acknowledged in a while and is no longer on its way is added again; the ledger knows what it has by key.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from gateway.ledger.packing import pack, unpack
from gateway.ledger.record import Attempt
from gateway.ledger.sieve import sift
from gateway.ledger.store import Batch, Counts, LedgerError
from gateway.settler.refusals import say_refused
from gateway.state.redis import FAILURES
from gateway.state.stream import BatchStream

logger = logging.getLogger("tollgate.settler")

MOST_BATCHES = 256  # that are put and not acknowledged; what follows waits in the journal
MOST_BYTES = 64 << 20  # of these, unless it is a single one
AGAIN_SECONDS = 10.0  # without an acknowledgement before one is looked after
POLL_SECONDS = 0.02  # between two questions for acknowledgements, at least

SET_ASIDE = b"aside"  # what a consumer says of a batch that can not be written; otherwise its counts


@dataclass(slots=True)
class _Sent:
    rows: int
    data: bytes
    id: bytes  # in the stream
    looked_at: float  # when it was added or found waiting


class StreamSink:
    """For one thread. Connects when first used."""

    def __init__(
        self,
        stream: BatchStream,
        *,
        source: str = "",
        most_batches: int = MOST_BATCHES,
        most_bytes: int = MOST_BYTES,
        again_seconds: float = AGAIN_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`source` names this sink for its life, and no other."""
        self.source = source or secrets.token_hex(8)
        self.counts = Counts()
        self._stream = stream
        self._most_batches, self._most_bytes = most_batches, most_bytes
        self._again_seconds = again_seconds
        self._monotonic = monotonic
        self._number = 0
        self._sent: dict[int, _Sent] = {}
        self._bytes = 0
        self._seen: list[int] = []  # acknowledgements to be forgotten at the next question
        self._asked = float("-inf")

    def put(self, batch: Batch) -> int:
        """A LedgerError may mean that it was added all the same; adding it once more does no harm."""
        number = self._number + 1
        batch, data = self._packed(number, batch)
        if self._is_full(len(data)):
            self._ask()
            if self._is_full(len(data)):
                raise LedgerError(
                    f"{len(self._sent)} batches wait at {self._stream.place} to be written to the ledger: see that a "
                    "settler runs there that reads them, and what it says of its database"
                )
        with self._explained():
            if not self._number:  # a Redis that is full could not make it later, nor be emptied without
                self._stream.make_group()
            id_ = self._stream.add(data)
        self._number = number
        self._sent[number] = _Sent(len(batch.attempts), data, id_, self._monotonic())
        self._bytes += len(data)
        return number

    def settled(self) -> int:
        if self._sent and self._monotonic() - self._asked >= POLL_SECONDS:
            self._ask()
        return min(self._sent, default=self._number + 1) - 1

    def close(self) -> None:
        with suppress(*FAILURES):
            if not self._sent:
                self._stream.forget(self.source)
            self._stream.close()

    def _packed(self, number: int, batch: Batch) -> tuple[Batch, bytes]:
        try:
            return batch, pack(self.source, number, batch)
        except (TypeError, ValueError):
            pass  # a value that can not be written: all but those rows go

        kept: list[Attempt] = []

        def keep(some: Sequence[Attempt]) -> int:
            pack(self.source, number, Batch(some))
            kept.extend(some)
            return len(some)

        _, refused = sift(batch.attempts, keep, (TypeError, ValueError))
        for attempt, why in refused:
            say_refused(attempt, why)
        self.counts = self.counts._replace(refused=self.counts.refused + len(refused))
        rest = Batch(kept, batch.readings)
        try:
            return rest, pack(self.source, number, rest)
        except (TypeError, ValueError) as error:
            logger.warning("%d readings of workers are not kept (%s)", len(batch.readings), error)
        rest = Batch(kept)
        return rest, pack(self.source, number, rest)

    def _is_full(self, more: int) -> bool:
        sent = len(self._sent)
        return sent >= self._most_batches or (sent > 0 and self._bytes + more > self._most_bytes)

    def _ask(self) -> None:
        with self._explained():
            said = self._stream.acknowledged(self.source, self._seen)
            now = self._asked = self._monotonic()
            self._seen = list(said)
            for number, what in said.items():
                if (sent := self._sent.pop(number, None)) is not None:
                    self._bytes -= len(sent.data)
                    self._count(sent, what)
            late = [sent for sent in self._sent.values() if now - sent.looked_at >= self._again_seconds]
            if late:
                self._look_after(late, now)

    def _look_after(self, late: list[_Sent], now: float) -> None:
        again = 0
        for sent, fate in zip(late, self._stream.fates([sent.id for sent in late]), strict=True):
            if fate == "gone":
                sent.id = self._stream.add(sent.data)
                again += 1
            sent.looked_at = now
        if again:
            logger.warning("%d batches for the ledger are gone from %s: added again", again, self._stream.place)

    def _count(self, sent: _Sent, said: bytes) -> None:
        added, duplicates, refused = self.counts
        if said == SET_ASIDE:
            for attempt in unpack(sent.data).batch.attempts:
                say_refused(attempt, "its batch was set aside")
            self.counts = Counts(added, duplicates, refused + sent.rows)
            return
        counts = [int(count) for count in said.split() if count.isdigit()]
        if len(counts) == len(self.counts):
            self.counts = Counts(added + counts[0], duplicates + counts[1], refused + counts[2])

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except FAILURES as error:
            raise redis_trouble(self._stream, error) from error


def redis_trouble(stream: BatchStream, error: Exception) -> LedgerError:
    said = str(error) or type(error).__name__
    remedy = "give it more memory (`maxmemory`)" if "maxmemory" in said else "see that it runs and takes writes"
    return LedgerError(f"Redis at {stream.place}, on the way to the ledger, does not do its work ({said}): {remedy}")
