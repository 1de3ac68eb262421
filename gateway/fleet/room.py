"""Where requests wait when every worker that could take them is full: in order, bounded in number and in time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from gateway.errors import Overloaded
from gateway.fleet.backend import Backend

LONGEST_RETRY_AFTER = 60.0


class WaitingRoom:
    """One per process. A request waits for all workers it may go to at once and takes the first place that is free."""

    def __init__(self) -> None:
        self.waiting = 0
        self.refused = 0

    async def place(self, backends: Sequence[Backend], *, length: int, patience: float) -> Backend:
        """The backend that has a place; its dispatch must be opened before anything else runs.

        Raises `Overloaded` at once when `length` are waiting already or the wait would be longer than `patience`
        seconds, and when it was. Being cancelled gives the place back.
        """
        expected = expected_wait(backends)
        if self.waiting >= length or expected > patience:
            raise self._full(expected)
        waiter: asyncio.Future[Backend] = asyncio.get_running_loop().create_future()
        self.waiting += 1
        for backend in backends:
            backend.queue.append(waiter)
        try:
            async with asyncio.timeout(patience):
                backend = await waiter
        except TimeoutError:
            _give_back(waiter)
            raise self._full(expected) from None
        except asyncio.CancelledError:
            _give_back(waiter)
            raise
        finally:
            self.waiting -= 1
            for backend in backends:
                with contextlib.suppress(ValueError):
                    backend.queue.remove(waiter)
        backend.promised -= 1
        return backend

    def _full(self, expected: float) -> Overloaded:
        self.refused += 1
        return Overloaded(
            "Every worker that could take this request is full, and so is the queue before them. Try again shortly.",
            retry_after=min(max(1.0, expected), LONGEST_RETRY_AFTER),
        )


def _give_back(waiter: asyncio.Future[Backend]) -> None:
    """The place and the end of the wait came together."""
    if waiter.done() and not waiter.cancelled():
        backend = waiter.result()
        backend.promised -= 1
        backend.let_in(time.monotonic())


def expected_wait(backends: Sequence[Backend]) -> float:
    """Seconds until one more request would get its place, by the pace at which places came free; 0 if not known."""
    pace = 0.0  # places a second
    for backend in backends:
        if not backend.turnover:
            return 0.0
        pace += 1 / backend.turnover
    return (max(len(backend.queue) for backend in backends) + 1) / pace
