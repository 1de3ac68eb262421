"""A gateway's ledger and the settler beside it, on a clock that the test turns."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from gateway.ledger.journal.reader import journals
from gateway.ledger.journal.writer import Journal
from gateway.ledger.record import Attempt
from gateway.ledger.store import Store
from gateway.ledger.writer import Ledger
from gateway.settler.settler import LAST_RETRY, Settler
from gateway.settler.sinks import StoreSink
from gateway.settler.status import Status
from tests.attempts import attempt

START = 1_790_000_000.0
SEGMENT = 64 * 1024  # about 450 records


def row(number: int, **fields: Any) -> Attempt:
    """The settlement of request `number`."""
    return attempt(f"req_{number:028x}", cost_nanousd=number, **fields)


class Site:
    """A gateway's ledger and the settler beside it, on one clock that a test turns."""

    def __init__(self, root: Path, store: Store, *, segments: int = 1_000, refuses: bool = False) -> None:
        self.now = START
        self.root = root
        self.journal = Journal(root, "me", max_bytes=segments * SEGMENT, segment_bytes=SEGMENT, sync_seconds=0.01)
        self.ledger = Ledger(self.journal, refuses=refuses)
        self.settler = Settler(root, StoreSink(store), clock=lambda: self.now, monotonic=lambda: self.now)
        self.longest = 0.0  # seconds that the gateway waited for one record

    def record(self, *numbers: int, **fields: Any) -> None:
        for number in numbers:
            one = row(number, opened_at=self.now, duration_seconds=0.0, **fields)
            began = time.perf_counter()
            self.ledger.record(one)
            self.longest = max(self.longest, time.perf_counter() - began)

    def settle(self, seconds: float = 1.0) -> Status:
        """Lets time pass and the settler work; what it says of itself then."""
        self.now += seconds
        while self.settler.step():
            pass
        return self.settler.status

    def settle_all(self) -> Status:
        for _ in range(100):
            status = self.settle(LAST_RETRY)
            if not status.last_error and not status.waiting and self.settler.is_idle:
                return status
        raise AssertionError(status)

    def close(self) -> None:
        self.ledger.close()
        self.settle_all()
        self.settler.close()
        assert journals(self.root) == []
