"""The way from a sink to PostgreSQL, as tests look at it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

from gateway.ledger.opening import open_books, open_store
from gateway.ledger.store import Batch, LedgerError, Store
from gateway.settler.consumer import Consumer
from gateway.settler.stream import StreamSink
from gateway.state.stream import BatchStream
from tests.attempts import attempt
from tests.eventually import eventually

AGAIN_SECONDS = 0.3
ROWS = 10  # of a batch


class Scene:
    """A sink, and consumers beside it. What was put is counted, by hand."""

    def __init__(self, redis: str, ledger: str) -> None:
        self.redis, self.ledger = redis, ledger
        self.sink = StreamSink(BatchStream(redis, seconds=1.0), again_seconds=AGAIN_SECONDS)
        self.rows = self.cost = self.number = 0
        self._stack = ExitStack()
        self._stack.callback(self.sink.close)
        open_store(ledger).close()

    def put(self, batches: int = 1) -> None:
        """Patiently, as the settler does."""
        for _ in range(batches):
            eventually(self.offer, "the batch is taken")

    def offer(self) -> bool:
        """Puts the next batch; where it is not taken, the next one is the same once more."""
        try:
            self.number = self.sink.put(self.next_batch())
        except LedgerError:
            return False
        self.rows += ROWS
        self.cost = self.rows * (self.rows + 1) // 2
        return True

    def next_batch(self) -> Batch:
        return Batch([attempt(f"r{self.rows + row}", cost_nanousd=self.rows + row + 1) for row in range(ROWS)])

    def consume(
        self,
        *,
        claim_seconds: float = 0.5,
        store: Callable[[], Store] | None = None,
        retries: tuple[float, float] = (0.02, 1.0),
    ) -> Consumer:
        consumer = Consumer(
            BatchStream(self.redis, seconds=1.0),
            store or (lambda: open_store(self.ledger)),
            claim_seconds=claim_seconds,
            retries=retries,
        )
        stop = threading.Event()
        thread = threading.Thread(target=consumer.run, args=(stop,))
        thread.start()
        self._stack.callback(thread.join, 20)
        self._stack.callback(stop.set)
        return consumer

    def is_settled(self) -> bool:
        try:
            return self.sink.settled() == self.number
        except LedgerError:
            return False

    def settles(self) -> None:
        """Everything that was put is in the ledger: each row once, and the sums of all."""
        eventually(self.is_settled, "everything is acknowledged")
        with open_books(self.ledger).snapshot() as ledger:
            found = ledger.rows("SELECT COUNT(*), COUNT(DISTINCT request_id), SUM(cost_nanousd) FROM entries")
            sums = ledger.rows("SELECT SUM(requests), SUM(attempts), SUM(cost_nanousd) FROM rollups")
        assert found == sums == [(self.rows, self.rows, self.cost)]

    def close(self) -> None:
        self._stack.close()
