"""Where a settler puts what it reads from journals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.ledger.location import is_postgresql
from gateway.ledger.opening import open_store
from gateway.ledger.store import Batch, Counts, Sink, Store
from gateway.settler.orders import Orders
from gateway.settler.refusals import say_refused

if TYPE_CHECKING:
    from gateway.settler.consumer import Consumer

MEMORY = "memory://"  # a `state:` that no other process shares


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
    if not uses_stream(orders):
        return StoreSink(open_store(orders.ledger, make=False))
    from gateway.settler.stream import StreamSink  # only who goes through Redis pays for its library
    from gateway.state.stream import BatchStream

    return StreamSink(BatchStream(orders.state))


def open_consumer(orders: Orders) -> Consumer | None:
    """The far end of that sink, to be run beside it or elsewhere; None where it needs none. Connects when it runs."""
    if not uses_stream(orders):
        return None
    from gateway.settler.consumer import Consumer
    from gateway.state.stream import BatchStream

    return Consumer(BatchStream(orders.state), lambda: open_store(orders.ledger, make=False))


def uses_stream(orders: Orders) -> bool:
    """With Redis and PostgreSQL, batches go to the latter through the former: few then write the database, whatever the
    number of gateways, and in few transactions."""
    return is_postgresql(orders.ledger) and orders.state != MEMORY
