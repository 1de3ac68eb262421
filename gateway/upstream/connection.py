"""One HTTP/1.1 connection to a worker: writes a request, parses its answer, keeps its deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

import httptools

from gateway.clock import monotonic
from gateway.errors import GatewayError, WorkerBroke, WorkerTimeout
from gateway.table import Timeout
from gateway.upstream.response import Response

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_UNFINISHED_HEAD_BYTES: Final = 4 * MAX_HEAD_BYTES  # as read: with blanks, line ends and interim answers
READ_BYTES: Final = 64 * 1024  # at most, in one read; uvloop's own would be four times that, for every slow client

# Where every connection reads into. What a read brings is taken out of it before the next one, and the process has one
# event loop.
_read_into: Final = memoryview(bytearray(READ_BYTES))


class ConnectionLost(Exception):
    """The worker closed before a byte of its answer: harmless on a pooled connection, which may have gone stale."""


class _Unsolicited(Exception):
    """An answer begins that nobody asked for."""


class Asker(Protocol):
    """Who waits for an answer of which nothing has come, and may ask another worker for it."""

    def may_leave(self) -> bool:
        """Whether it does so now, when this exchange fails."""
        ...


class Pulse:
    """When anything was last heard of a worker, on any of its connections: `time.monotonic()` seconds."""

    __slots__ = ("heard_at",)

    def __init__(self) -> None:
        self.heard_at = 0.0


class Connection:
    """Carries one exchange at a time. `release` is called when it may carry another, `forget` when it never will."""

    __slots__ = (
        "_answered",
        "_asker",
        "_awaiting",
        "_deadline",
        "_eof_ends_body",
        "_forget",
        "_head_bytes",
        "_idle_timeout",
        "_in_body",
        "_interim",
        "_parser",
        "_paused",
        "_pulse",
        "_release",
        "_response",
        "_timer",
        "_timer_due",
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
        pulse: Pulse | None = None,
    ) -> None:
        self.loop = loop
        self._pulse = Pulse() if pulse is None else pulse
        self.idle_since = 0.0
        self._release = release
        self._forget = forget
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self._awaiting: asyncio.Future[Response] | None = None  # the head of the answer
        self._asker: Asker | None = None  # until a byte of the body has come
        self._answered = False  # a byte of the answer has come
        self._in_body = False  # and one of its body
        self._paused = False
        self._interim = False
        self._eof_ends_body = False
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._deadline = 0.0
        self._total_deadline = 0.0
        self._idle_timeout = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, deadlines: Timeout, asker: Asker | None = None) -> Response:
        """Writes one whole request and returns its answer as soon as the headers are in.

        Raises `ConnectionLost`, `WorkerBroke` or `WorkerTimeout`; being cancelled drops the connection.
        """
        transport = self._transport
        if transport is None:
            raise ConnectionLost
        self._awaiting = awaiting = self.loop.create_future()
        self._response = response = Response(self)
        self._asker = asker
        self._head_bytes = 0
        self._answered = self._in_body = False
        now = monotonic()
        self._total_deadline = total = now + deadlines.total
        self._idle_timeout = idle = deadlines.idle
        self._deadline = first = min(now + deadlines.first_token, total)
        due = min(first, now + idle)
        if self._timer is None or due < self._timer_due:
            self._arm(due)
        transport.write(request)
        try:
            return await awaiting
        except asyncio.CancelledError:
            self._drop(response)
            raise

    def pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._deadline = min(monotonic() + self._idle_timeout, self._total_deadline)
            self._transport.resume_reading()

    def abort(self) -> None:
        """Drops the connection without waiting for anything; whoever still reads the answer is told."""
        self._fail(WorkerBroke("The answer was broken off."))
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> bool:
        """Fails an exchange with a worker that is silent, before a byte of its body, if its asker asks another then."""
        asker = self._asker
        if asker is None or self._response is None or not asker.may_leave():
            return False
        self._fail(WorkerTimeout("The worker has fallen silent: gave up waiting for its answer.", code="worker_silent"))
        self.abort()
        return True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # asyncio.BufferedProtocol, which it is in all but its bases: a compiled class has none that are interpreted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases

    def get_buffer(self, sizehint: int) -> memoryview:
        return _read_into

    def buffer_updated(self, nbytes: int) -> None:
        self._hear(_read_into[:nbytes])

    def data_received(self, data: bytes) -> None:
        """Instead of those two, from a loop that goes by an object's bases: asyncio's own."""
        self._hear(data)

    def _hear(self, data: bytes | memoryview) -> None:
        response = self._response
        if response is None:  # bytes nobody asked for: the framing can not be trusted any more
            self.abort()
            return
        now = monotonic()
        response.read_at = self._pulse.heard_at = now
        self._answered = True
        if not response.status:
            self._head_bytes += len(data)
        broken: Exception | None = None
        try:
            self._parser.feed_data(data)
            if self._head_bytes > MAX_UNFINISHED_HEAD_BYTES and not response.status:
                raise httptools.HttpParserError("a head without end")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            broken = error
        if self._awaiting is not None and response.status:
            awaiting, self._awaiting = self._awaiting, None
            if not awaiting.done():
                awaiting.set_result(response)
        if self._in_body:
            self._deadline = min(now + self._idle_timeout, self._total_deadline)
        response.flush()
        if broken is not None:  # what came before was good, perhaps the whole answer
            self._fail(WorkerBroke(f"The worker's answer is not valid HTTP ({type(broken).__name__})."))
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        response, awaiting = self._response, self._awaiting
        if response is not None:
            if awaiting is not None and not self._answered:
                if not awaiting.done():
                    awaiting.set_exception(ConnectionLost())
                self._awaiting = None
            elif self._eof_ends_body and exc is None:
                response.complete = True
                response.read_at = monotonic()
                response.flush()
            else:
                self._fail(WorkerBroke("The worker closed the connection before the end of its answer."))
        self._end_exchange()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport = None
        self._forget(self)

    def eof_received(self) -> None:
        """The transport closes itself."""

    def pause_writing(self) -> None:
        """Requests are bounded, and written at once."""

    def resume_writing(self) -> None: ...

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._response is None:  # or the next request would be given the rest of this answer
            raise _Unsolicited
        self._interim = False
        self._eof_ends_body = False

    def on_header(self, name: bytes, value: bytes) -> None:
        response = self._response
        if response is not None and not response.status:  # what comes after the head is a trailer
            response.headers.append((name, value))

    def on_headers_complete(self) -> None:
        response = self._response
        assert response is not None
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue and its like announce the real answer
            self._interim = True
            response.headers.clear()
            return
        if self._head_bytes > MAX_HEAD_BYTES and sum(len(n) + len(v) for n, v in response.headers) > MAX_HEAD_BYTES:
            raise ValueError(f"a head above {MAX_HEAD_BYTES} bytes")
        if response.header(b"content-length") is None:
            codings = [value for name, value in response.headers if name.lower() == b"transfer-encoding"]
            if codings and (len(codings) > 1 or codings[0].strip().lower() != b"chunked"):
                raise ValueError("a transfer coding that was not asked for")  # the parser minds only the last
            self._eof_ends_body = not codings
        response.status = status

    def on_body(self, body: bytes) -> None:
        response = self._response
        assert response is not None
        self._in_body = True
        self._asker = None
        response.feed(body)

    def on_message_complete(self) -> None:
        if self._interim:
            return
        response, awaiting = self._response, self._awaiting
        assert response is not None
        response.complete = True
        self._end_exchange()
        if awaiting is not None and not awaiting.done():
            awaiting.set_result(response)
        if not self._parser.should_keep_alive() or not self.is_open:
            self.close()
            return
        if self._paused:
            self.resume()
        self._release(self)

    def _drop(self, response: Response) -> None:
        if self._response is response:  # else the answer is whole, and the connection perhaps another's by now
            self.abort()

    def _arm(self, due: float) -> None:
        """One timer that outlives its exchange: it is due when the deadline is or one that is set from now on could be.

        Too early, it is armed again. So neither an exchange nor a moved deadline costs a timer.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self.loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._response is None:
            return
        now = monotonic()
        if self._paused and now < self._total_deadline:  # the client is the slow one, not the worker
            self._deadline = min(now + self._idle_timeout, self._total_deadline)
        if now < self._deadline:
            self._arm(min(self._deadline, now + self._idle_timeout))
            return
        what = "the next bytes" if self._in_body else "the first bytes"
        if now >= self._total_deadline:
            what = "the end of the answer"
        self._fail(WorkerTimeout(f"The worker took too long: gave up waiting for {what}."))
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
        self._asker = None
