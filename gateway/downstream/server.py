"""Accepts clients, and lets go of them without losing a request that HTTP/1.1 lets one keep.

A drain stops accepting, but not before those are in whose connection the kernel has already made. What is under way is
finished; what still arrives on a kept connection is answered with `connection: close`. A connection that has been quiet
for longer than clients commonly keep one is closed at once, the others when they have been: a client that sends in that
very moment finds its connection closed without a byte, which it may take for leave to send again on another.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import cast

from uvicorn.server import ServerState

from gateway.downstream.connection import ClientConnection
from gateway.downstream.limits import Intake
from gateway.listening import BACKLOG

LOOK_SECONDS = 0.02  # between two looks at whether all have left
SETTLE_SECONDS = 2.0  # for what was cut off to say so and to be settled
WRITE_SECONDS = 1.0  # for the last words to be taken


class Server:
    """Serves on `listeners[slot]`, or on all of them; the others are accepted on while nobody else does.

    `connect` makes a connection's protocol around the state that all of them share with uvicorn; `intake` is what they
    share besides.
    """

    def __init__(
        self,
        connect: Callable[[ServerState], ClientConnection],
        listeners: Sequence[socket.socket],
        intake: Intake,
        slot: int = 0,
    ) -> None:
        self.state = ServerState()
        self._intake = intake
        self._connect = connect
        self._listeners = list(listeners)
        self._slot = slot
        self._accepting: dict[int, asyncio.AbstractServer] = {}
        self._clock: asyncio.TimerHandle | None = None

    @property
    def draining(self) -> bool:
        return self._intake.draining

    async def start(self) -> None:
        self._tell_time()
        await self.accept(self._slot)

    async def accept(self, slot: int) -> None:
        """Accepts on one more of the listeners."""
        if slot in self._accepting or self.draining:
            return
        # A copy, which is closed with the server: the socket itself lives on, and with it what waits in its queue.
        copy = self._listeners[slot].dup()
        loop = asyncio.get_running_loop()
        self._accepting[slot] = await loop.create_server(self._new, sock=copy, backlog=BACKLOG)

    def release(self, slot: int) -> None:
        """Leaves a listener to others."""
        server = self._accepting.pop(slot, None)
        if server is not None:
            server.close()

    async def drain(self, seconds: float, hurried: asyncio.Event) -> int:
        """Ends all connections, cutting off what lasts longer than `seconds` or the moment somebody is in a hurry; how
        many requests were cut off."""
        self._intake.draining = True
        for slot in list(self._accepting):
            self.release(slot)
        for connection in list(self._connections):
            connection.shutdown()
        await self._accept_the_waiting()
        left = asyncio.ensure_future(self._all_left())
        hurry = asyncio.ensure_future(hurried.wait())
        await asyncio.wait((left, hurry), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        cut = await self._cut_off()
        hurry.cancel()
        left.cancel()
        if self._clock is not None:
            self._clock.cancel()
        return cut

    @property
    def _connections(self) -> set[ClientConnection]:
        return self.state.connections  # type: ignore[return-value]  # all of them are ours

    def _new(self) -> asyncio.Protocol:
        return cast("asyncio.Protocol", self._connect(self.state))  # which it is in all but its bases

    async def _accept_the_waiting(self) -> None:
        """Closing a socket resets the connections in its queue. One that comes between the last look and the closing
        can not be helped here; where a parent holds the socket too, another process accepts it."""
        loop = asyncio.get_running_loop()
        waiting: list[socket.socket] = []
        for listener in self._listeners:
            with listener:
                while len(waiting) < BACKLOG:
                    try:
                        waiting.append(listener.accept()[0])
                    except OSError:  # nobody waits, or who did has left
                        break
        for client in waiting:
            client.setblocking(False)
            await loop.connect_accepted_socket(self._new, client)

    async def _all_left(self) -> None:
        while self.state.connections or self.state.tasks:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(LOOK_SECONDS)

    async def _cut_off(self) -> int:
        tasks = set(self.state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=SETTLE_SECONDS)
        for connection in list(self._connections):
            connection.transport.close()
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._all_left()
        except TimeoutError:
            for connection in list(self._connections):
                connection.transport.abort()
        return len(tasks)

    def _tell_time(self) -> None:
        date = formatdate(time.time(), usegmt=True).encode()
        self.state.default_headers = [(b"date", date)]
        self._intake.common_lines = [b"date: " + date]
        self._clock = asyncio.get_running_loop().call_later(1.0, self._tell_time)
