"""One answer of a worker, from its status line to its last byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.errors import GatewayError, WorkerBroke

if TYPE_CHECKING:
    from gateway.upstream.connection import Connection

PAUSE_ABOVE_BYTES: Final = 64 * 1024  # unread body held per answer before reading from the worker pauses


class Response:
    """A worker's answer. The body is taken once, either whole (`read`) or as it comes (`pipe`).

    `headers` has names as they were sent. Until somebody takes the body, at most `PAUSE_ABOVE_BYTES` plus one read of
    it is held and the socket is paused. Leaving without reading to the end must be said with `abort`.
    """

    __slots__ = (
        "_connection",
        "_error",
        "_held",
        "_held_at_most",
        "_held_bytes",
        "_sink",
        "_stopped",
        "_waiter",
        "_wake_at",
        "complete",
        "headers",
        "read_at",
        "status",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self._error: GatewayError | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._held_at_most = PAUSE_ABOVE_BYTES
        self._wake_at = 1
        self._sink: Callable[[bytes], None] | None = None
        self._stopped = False  # by whoever takes the body, who then also resumes
        self._waiter: asyncio.Future[None] | None = None
        self.read_at = 0.0  # monotonic seconds of the latest read from the socket

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lowercase name."""
        for key, value in self.headers:
            if key == name or (len(key) == len(name) and key.lower() == name):
                return value
        return None

    async def take(self) -> bytes:
        """What has come of the body since the last call, waiting until there is something; empty at its end."""
        while not self._held and not self.complete:
            self.resume()
            await self._wait()
        held, self._held, self._held_bytes = self._held, [], 0
        return b"".join(held)

    async def read(self, limit: int) -> bytes:
        """The whole body; `WorkerBroke` if it is longer than `limit` bytes or cut short."""
        self._held_at_most, self._wake_at = limit, limit + 1
        while not self.complete and self._held_bytes <= limit:
            self.resume()
            await self._wait()
        whole = self.whole(limit)
        if whole is None:
            self.abort()
            raise WorkerBroke(f"The worker's answer is longer than {limit} bytes.")
        return whole

    def whole(self, limit: int) -> bytes | None:
        """What `read` gives, if all of it is here already."""
        if not self.complete or self._held_bytes > limit:
            return None
        held, self._held = self._held, []
        return held[0] if len(held) == 1 else b"".join(held)

    async def pipe(self, sink: Callable[[bytes], None]) -> None:
        """Gives `sink` every read as it arrives, with no task switch between; returns at the end of the body.

        What arrives in one read is one call. Raises `WorkerBroke` or `WorkerTimeout` after the last bytes that came.
        """
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            sink(b"".join(held))
        if self.complete:
            return
        self._raise_error()
        self._sink = sink
        if not self._stopped:
            self._connection.resume()
        try:
            await self._wait()
        finally:
            self._sink = None

    def pause(self) -> None:
        """Stops reading from the worker until `resume`; no deadline but the last runs meanwhile."""
        self._stopped = True
        if not self.complete:
            self._connection.pause()

    def resume(self) -> None:
        self._stopped = False
        if not self.complete:
            self._connection.resume()

    def abort(self) -> None:
        """Closes the connection at once, which is how an engine learns to stop; no effect on a complete answer."""
        if not self.complete:
            self._connection.abort()

    # The connection calls what follows.

    def feed(self, body: bytes) -> None:
        self._held.append(body)
        self._held_bytes += len(body)

    def flush(self) -> None:
        """Delivers what one read brought."""
        sink = self._sink
        if sink is not None:
            if self._held:
                held, self._held, self._held_bytes = self._held, [], 0
                sink(held[0] if len(held) == 1 else b"".join(held))
            if self.complete:
                self._wake()
        else:
            if self._held_bytes > self._held_at_most and not self.complete:
                self._connection.pause()
            if self.complete or self._held_bytes >= self._wake_at:
                self._wake()

    def fail(self, error: GatewayError) -> None:
        self._error = error
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait(self) -> None:
        self._raise_error()
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
