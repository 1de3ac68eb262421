"""Where a settler puts what it reads from journals."""

from __future__ import annotations

import json
import logging

from gateway.ledger.opening import open_store
from gateway.ledger.record import Attempt
from gateway.ledger.store import Batch, Counts, Sink, Store
from gateway.settler.orders import Orders

logger = logging.getLogger("tollgate.settler")


class StoreSink:
    """Straight into a database."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.counts = Counts()
        self._number = 0

    def put(self, batch: Batch) -> int:
        written = self.store.write(batch)
        added, duplicates, refused = self.counts
        lost = len(written.refused)
        self.counts = Counts(
            added + written.added, duplicates + len(batch.attempts) - written.added - lost, refused + lost
        )
        for attempt, why in written.refused:
            say_refused(attempt, why)
        self._number += 1
        return self._number

    def settled(self) -> int:
        return self._number

    def close(self) -> None:
        self.store.close()


def open_sink(orders: Orders) -> Sink:
    """Of gateway.yaml's `ledger:` and `state:`; raises LedgerError when it can not be opened now."""
    return StoreSink(open_store(orders.ledger))


def say_refused(attempt: Attempt, why: str) -> None:
    """What the database can never take, so that it can be entered by hand: all of it, on one line."""
    fields = {**attempt._asdict(), "line": attempt.line._asdict(), "label": attempt.label._asdict()}
    logger.error("attempt lost, the ledger does not take it (%s): %s", why, json.dumps(fields, default=repr))
