"""A consumer in a process of its own, which kills itself where it is told to."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from gateway.ledger.opening import open_store
from gateway.ledger.store import Batch, Store, Written
from gateway.settler.consumer import Consumer
from gateway.state.stream import BatchStream, Entry

# Everything that happens to an entry, in order: the process may end before each, and after the last.
BOUNDARIES = ("read", "taken", "written", "committed", "acknowledged", "trimmed")


class MortalStream(BatchStream):
    def __init__(self, url: str, reach: Callable[[str], None]) -> None:
        super().__init__(url)
        self._reach = reach

    def read(self, consumer: str, count: int, *, block: bool) -> list[Entry]:
        entries = super().read(consumer, count, block=block)
        if entries:
            self._reach("read")
        return entries

    def acknowledge(self, said: Mapping[str, Mapping[int, bytes]], ids: Sequence[bytes]) -> None:
        self._reach("committed")
        super().acknowledge(said, ids)
        self._reach("trimmed")

    def trim(self) -> None:
        self._reach("acknowledged")
        super().trim()


class MortalStore:
    def __init__(self, store: Store, reach: Callable[[str], None]) -> None:
        self._store = store
        self._reach = reach
        self.snapshot, self.spent, self.change, self.close = store.snapshot, store.spent, store.change, store.close

    def write(self, batch: Batch) -> Written:
        self._reach("taken")
        connection = self._store._connection  # type: ignore[attr-defined]
        execute = connection.execute

        def watched(query: bytes, *arguments: object) -> object:
            found = execute(query, *arguments)
            if b"INSERT INTO entries" in query:
                self._reach("written")
            return found

        connection.execute = watched
        try:
            return self._store.write(batch)
        finally:
            connection.execute = execute


def main() -> None:
    redis, ledger, boundary, after = sys.argv[1:]
    left = int(after)

    def reach(name: str) -> None:
        nonlocal left
        if name == boundary:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    consumer = Consumer(MortalStream(redis, reach), lambda: MortalStore(open_store(ledger), reach), claim_seconds=0.5)
    consumer.run(threading.Event())


if __name__ == "__main__":
    main()
