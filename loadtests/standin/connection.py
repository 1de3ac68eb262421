"""One client connection of the stand-in: HTTP/1.1 in with httptools, replies out one at a time."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, cast

import httptools

from loadtests.standin.endpoints import reply
from loadtests.standin.engine import Answer, Request, Stream
from loadtests.standin.play import play_answer, play_stream, whole
from loadtests.standin.seats import Seats

if TYPE_CHECKING:
    from loadtests.standin.server import Outcome, Seen, Standin

_WATCHED = frozenset((b"content-type", b"x-request-id", b"x-standin"))
_MAX_PIPELINED = 100
_AT_ONCE: AbstractAsyncContextManager[None] = nullcontext()


class Connection(asyncio.Protocol):
    """Requests are answered one at a time, in order; a client that leaves while one is open aborts it."""

    def __init__(self, server: Standin) -> None:
        self.server = server
        self.idle_since = server.loop.time()
        self.seen: Seen | None = None  # the request being answered
        self.closed = False
        self._waiting: deque[tuple[Request, list[tuple[bytes, bytes]], bool]] = deque()
        self._player: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._resting: asyncio.Future[None] | None = None
        self._released = False  # the request being answered: it rests no more
        self._new_message()

    # --- asyncio ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpRequestParser(self)
        self.server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n")
            self.transport.write(b"Invalid HTTP request received.")
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.server.connections.discard(self)
        self.resume_writing()
        if self._player is not None:
            self._player.cancel()
        if self.seen is not None:
            self._finish("aborted")

    def pause_writing(self) -> None:
        self._writable = self.server.loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    # --- httptools --------------------------------------------------------------------------------------------------

    def _new_message(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._watched: dict[bytes, str] = {}
        self._body: list[bytes] = []

    def on_message_begin(self) -> None:
        self._new_message()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        name = name.lower()
        if name in _WATCHED:
            self._watched[name] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        request = Request(
            method=self.parser.get_method().decode("ascii"),
            path=self._url.partition(b"?")[0].decode("latin-1"),
            content_type=self._watched.get(b"content-type", ""),
            body=b"".join(self._body),
            request_id=self._watched.get(b"x-request-id"),
            wish=self._watched.get(b"x-standin"),
        )
        keep = self.parser.should_keep_alive()
        if self.seen is None:
            self._serve(request, self._headers, keep)
        elif len(self._waiting) < _MAX_PIPELINED:
            self._waiting.append((request, self._headers, keep))
        else:
            self.transport.abort()

    # --- answering --------------------------------------------------------------------------------------------------

    def _serve(self, request: Request, headers: list[tuple[bytes, bytes]], keep: bool) -> None:
        self.keep = keep
        self._released = False
        self.seen = self.server.begin(request, headers)
        said = reply(self.server.engine, request)
        self.seen.finish_reason = said.finish_reason
        if isinstance(said, Answer) and (said.behaviour is None or (said.behaviour.is_instant and not self.has_queue)):
            self.transport.write(whole(said, self.keep))
            self.count(said.tokens)
            self._finish("answered")
        else:
            self._player = self.server.loop.create_task(self._play(said))

    async def _play(self, said: Answer | Stream) -> None:
        self._finish(await (play_answer(self, said) if isinstance(said, Answer) else play_stream(self, said)))

    def _finish(self, outcome: Outcome) -> None:
        """The request is over, whichever way it went; the next pipelined one starts."""
        seen = self.seen
        assert seen is not None
        self.seen = self._player = None
        self.idle_since = self.server.loop.time()
        self.server.end(seen, outcome)
        if self.closed or outcome == "faulted":
            return
        if not self.keep:
            self.transport.close()
        elif self._waiting and not self.transport.is_closing():
            self._serve(*self._waiting.popleft())

    # --- for the players --------------------------------------------------------------------------------------------

    @property
    def has_queue(self) -> bool:
        return self.server.engine.seats is not None

    def turn(self, said: Answer | Stream) -> AbstractAsyncContextManager[None]:
        """The time in which the engine generates for this request; waits for it first."""
        return self._seated(said, self.server.engine.seats) if self.server.engine.seats else _AT_ONCE

    @asynccontextmanager
    async def _seated(self, said: Answer | Stream, seats: Seats) -> AsyncGenerator[None]:
        async with seats.seat() as waited:
            if said.behaviour is not None:
                self.server.engine.begin(said.behaviour, said.tokens, waited)
            yield

    async def send(self, data: bytes) -> None:
        """Writes, and waits when the client does not keep up."""
        self.transport.write(data)
        if self._writable is not None:
            await self._writable

    async def rest(self, seconds: float) -> None:
        """Lets that time pass, or less when the request is released."""
        if self._released:
            return
        self._resting = self.server.loop.create_future()
        timer = self.server.loop.call_later(seconds, self._go_on)
        try:
            await self._resting
        finally:
            timer.cancel()
            self._resting = None

    def release(self) -> None:
        """The request being answered is answered without any further delay."""
        self._released = True
        self._go_on()

    def _go_on(self) -> None:
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)

    def count(self, tokens: int) -> None:
        """Tokens the client got."""
        assert self.seen is not None
        self.seen.tokens += tokens
        self.server.engine.metrics.generation_tokens += tokens

    @property
    def tokens_sent(self) -> int:
        return self.seen.tokens if self.seen else 0

    def reset(self) -> None:
        """Closes with RST instead of FIN."""
        raw = cast(socket.socket, self.transport.get_extra_info("socket"))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
