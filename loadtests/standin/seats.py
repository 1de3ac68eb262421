"""A bounded capacity: so many requests are generated for at once, the rest wait their turn in the order they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import monotonic


class Seats:
    """What --max-num-seqs is to an engine. A client that leaves gives up its turn or its seat."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError("an engine runs at least one request at a time")
        self.count = count
        self.taken = 0
        self._turns = asyncio.Semaphore(count)  # first come, first served

    @asynccontextmanager
    async def seat(self) -> AsyncGenerator[float]:
        """Gives the seconds that were waited for it."""
        came = monotonic()
        async with self._turns:
            self.taken += 1
            try:
                yield monotonic() - came
            finally:
                self.taken -= 1
