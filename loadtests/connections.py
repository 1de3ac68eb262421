"""The connections of a load generator's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from loadtests.client import Connection, Exchange, Target, connect


class Connections:
    """The connections of a loop, so many and never more: one that is closed makes room for another."""

    def __init__(
        self, target: Target, finished: Callable[[Connection, Exchange], None], failed: Callable[[str], None]
    ) -> None:
        self.idle: list[Connection] = []  # the last used one last
        self._target, self._finished, self._failed = target, finished, failed
        self._all: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._events_gone = 0

    @property
    def events(self) -> int:
        return self._events_gone + sum(connection.events for connection in self._all)

    async def open(self, count: int) -> None:
        self.idle.extend([await connect(self._target, self._finished) for _ in range(count)])
        self._all.update(self.idle)

    def rest(self, connection: Connection) -> None:
        """Its exchange is over. A closed one keeps its place, and is used last."""
        self.idle.insert(len(self.idle) if connection.is_open else 0, connection)

    def replace(self, closed: Connection, start: Callable[[Connection], None]) -> None:
        """Opens another in its place, and starts there; `failed` hears why when that can not be."""
        closed.abort()
        self._events_gone += closed.events
        self._all.discard(closed)
        task = asyncio.get_running_loop().create_task(self._open(start))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, start: Callable[[Connection], None]) -> None:
        try:
            connection = await connect(self._target, self._finished)
        except OSError as error:
            self.idle.insert(0, Connection(self._finished))  # its place stays, to be tried again
            self._failed(f"no connection: {error.strerror or error}")
            return
        self._all.add(connection)
        start(connection)

    def leave(self) -> None:
        for task in self._opening:
            task.cancel()
        for connection in self._all:
            connection.abort()
