"""One HTTP/1.1 connection to a worker: writes a request, parses its answer, keeps its deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from gateway.errors import GatewayError, WorkerBroke, WorkerTimeout
from gateway.table import Timeout
from gateway.upstream.response import Response

MAX_HEAD_BYTES = 64 * 1024


class ConnectionLost(Exception):
    """The worker closed before a byte of its answer: harmless on a pooled connection, which may have gone stale."""


class Connection(asyncio.Protocol):
    """Carries one exchange at a time. `release` is called when it may carry another, `forget` when it never will."""

    __slots__ = (
        "_answered",
        "_awaiting",
        "_deadline",
        "_eof_ends_body",
        "_forget",
        "_head_bytes",
        "_idle_timeout",
        "_interim",
        "_parser",
        "_paused",
        "_phase",
        "_release",
        "_response",
        "_timer",
        "_total_deadline",
        "_transport",
        "idle_since",
        "loop",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        release: Callable[[Connection], None],
        forget: Callable[[Connection], None],
    ) -> None:
        self.loop = loop
        self.idle_since = 0.0
        self._release = release
        self._forget = forget
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self._awaiting: asyncio.Future[Response] | None = None  # the head of the answer
        self._answered = False  # a byte of the answer has come
        self._paused = False
        self._interim = False
        self._eof_ends_body = False
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._total_deadline = 0.0
        self._idle_timeout = 0.0
        self._phase = "the first byte"

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, deadlines: Timeout) -> asyncio.Future[Response]:
        """Writes one whole request. The future gives the answer as soon as its headers are in.

        It fails with `ConnectionLost`, `WorkerBroke` or `WorkerTimeout`; cancelling it leaves the connection busy, so
        the caller then owes an `abort`.
        """
        assert self._transport is not None
        assert self._awaiting is None
        self._awaiting = self.loop.create_future()
        self._response = Response(self)
        self._head_bytes = 0
        self._answered = False
        self._phase = "the first byte"
        now = self.loop.time()
        self._total_deadline = now + deadlines.total
        self._idle_timeout = deadlines.idle
        self._deadline = min(now + deadlines.first_token, self._total_deadline)
        # One timer per exchange, armed for the earliest deadline and re-armed when it fires early: moving the deadline
        # at every event then costs an attribute write and no timer.
        self._timer = self.loop.call_at(self._deadline, self._on_timer)
        self._transport.write(request)
        return self._awaiting

    def pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._deadline = min(self.loop.time() + self._idle_timeout, self._total_deadline)
            self._transport.resume_reading()

    def abort(self) -> None:
        """Drops the connection without waiting for anything; whoever still reads the answer is told."""
        response = self._response
        self._end_exchange()
        if response is not None:
            response.fail(WorkerBroke("The answer was broken off."))
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases

    def data_received(self, data: bytes) -> None:
        if self._response is None:  # bytes nobody asked for: the framing can not be trusted any more
            self.abort()
            return
        response = self._response
        self._answered = True
        self._deadline = min(self.loop.time() + self._idle_timeout, self._total_deadline)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(WorkerBroke(f"The worker's answer is not valid HTTP ({type(error).__name__})."))
            self.abort()
            return
        if self._awaiting is not None and response.status >= 200:
            awaiting, self._awaiting = self._awaiting, None
            if not awaiting.done():
                awaiting.set_result(response)
        response.flush()

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        response, awaiting = self._response, self._awaiting
        if response is not None:
            if awaiting is not None and not self._answered:
                if not awaiting.done():
                    awaiting.set_exception(ConnectionLost())
                self._awaiting = None
            elif self._eof_ends_body and exc is None:
                response.complete = True
                response.flush()
            else:
                self._fail(WorkerBroke("The worker closed the connection before the end of its answer."))
        self._end_exchange()
        self._transport = None
        self._forget(self)

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._interim = False
        self._eof_ends_body = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError(f"a head above {MAX_HEAD_BYTES} bytes")
        if self._response is not None:
            self._response.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        response = self._response
        if response is None:
            return
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue and its like announce the real answer
            self._interim = True
            response.headers.clear()
            return
        response.status = status
        self._phase = "the next bytes"
        self._eof_ends_body = (
            response.header(b"content-length") is None and response.header(b"transfer-encoding") is None
        )

    def on_body(self, body: bytes) -> None:
        if self._response is not None:
            self._response.feed(body)

    def on_message_complete(self) -> None:
        response = self._response
        if self._interim or response is None:
            return
        if response.status == 0:
            return
        response.complete = True
        awaiting = self._awaiting
        reusable = self._parser.should_keep_alive() and self.is_open
        self._end_exchange()
        if awaiting is not None and not awaiting.done():
            awaiting.set_result(response)
        if reusable:
            if self._paused and self._transport is not None:
                self._paused = False
                self._transport.resume_reading()
            self._release(self)
        else:
            self.close()

    def _on_timer(self) -> None:
        now = self.loop.time()
        if self._paused and now < self._total_deadline:  # the client is the slow one, not the worker
            self._deadline = min(now + self._idle_timeout, self._total_deadline)
        if now < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._on_timer)
            return
        self._timer = None
        phase = "the end of the answer" if now >= self._total_deadline else self._phase
        self._fail(WorkerTimeout(f"The worker took too long: gave up waiting for {phase}."))
        self.abort()

    def _fail(self, error: GatewayError) -> None:
        awaiting, response = self._awaiting, self._response
        self._end_exchange()
        if awaiting is not None and not awaiting.done():
            awaiting.set_exception(error)
        elif response is not None:
            response.fail(error)

    def _end_exchange(self) -> None:
        self._response = None
        self._awaiting = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
