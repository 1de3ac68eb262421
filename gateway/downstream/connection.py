"""A client's connection: the paths of the data plane are answered outside ASGI, all others by uvicorn's cycle.

In all but its bases an `asyncio.Protocol`, as a compiled class has none that are interpreted. uvicorn's own connection
would do most of this; interpreted, it took a seventh of a request's time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.server import ServerState

from gateway.downstream.arrivals import arrivals_of
from gateway.downstream.asgi import cycle_of
from gateway.downstream.exchange import Exchange, Handler
from gateway.downstream.flow import Flow
from gateway.downstream.framing import judge
from gateway.downstream.limits import Intake
from gateway.downstream.refusals import invalid, large_body, large_head, no_place, no_room, slow
from gateway.downstream.stall import StallWatch
from gateway.errors import GatewayError

MAX_HEAD_BYTES: Final = 64 * 1024
# As read, to bound what the parser holds: more than one read brings, in which a head may be anywhere.
MAX_UNFINISHED_BYTES: Final = 8 * MAX_HEAD_BYTES

_UPGRADE_OFFER: Final = frozenset((b"connection", b"upgrade", b"http2-settings"))
_MOST_BUFFERED: Final = HIGH_WATER_LIMIT  # bytes of a body that an ASGI application has not asked for
# What uvloop's `create_future` makes, in half the time.
_Future: Final[type[asyncio.Future[Exchange | None]]] = asyncio.Future

Screen = Callable[[Exchange], GatewayError | None]


class ClientConnection:
    """`handler` answers the paths in `paths`, and every request that is refused here: an exchange with `refusal`, its
    `path` empty where the head was not understood. It must not raise.

    A request of the data plane goes to the handler only when its body is complete, so that no body is awaited
    piecewise. `screen` looks at the head of one whose body is large and still coming, and says why it need not come.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        handler: Handler,
        screen: Screen,
        paths: frozenset[str],
        intake: Intake,
    ) -> None:
        if not config.loaded:
            config.load()
        self.loop = asyncio.get_running_loop() if _loop is None else _loop
        self.transport: asyncio.Transport
        self.flow: Flow
        self.server_state = server_state
        self._config = config
        self._app_state = app_state
        self._app: Any = config.loaded_app  # pyright: ignore[reportUnknownMemberType]
        self._tasks: set[asyncio.Task[None]] = server_state.tasks
        self._handler = handler
        self._screen = screen
        self._paths = {path.encode(): path for path in paths}
        self._intake = intake
        self._limits = intake.limits
        self._max_body_bytes = intake.limits.max_body_bytes
        self._parser: httptools.HttpRequestParser | None = self._new_parser()
        # The request that is coming
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_100 = False
        self._coming: Exchange | None = None  # if it is one of the data plane, until its body is there
        self._screened = False  # that one has been looked at
        self._message_open = False
        self._in_head = False
        self._offers_upgrade = False
        self._unfinished_bytes = 0  # an upper bound: read since the head began or since the last byte of a body
        self._window_bytes = 0  # read since the window began that the pace of a body is judged by
        self._received_bytes = 0  # of the body that is coming, as counted in the intake
        self._read_bytes = 0
        self._arrived = 0.0
        self._arrivals = arrivals_of(self.loop)
        # Requests that came
        self.cycle: Any = None  # the latest: an exchange, or uvicorn's for ASGI
        self.pipeline: list[Any] = []  # those that wait for their turn, oldest first
        self._running: Exchange | None = None  # the one whose turn it is to be answered
        self._asgi: Any = None  # the latest that was given to ASGI
        self._resting: asyncio.Task[None] | None = None  # has answered an exchange, and waits for the next
        self._next: asyncio.Future[Exchange | None] | None = None  # what it waits for
        self._on_answered = self._after_exchange
        self._leaving = False  # the next answer is the last
        self._deaf = False  # whatever else the client sends is not for us
        # Time
        self.timeout_keep_alive: float = config.timeout_keep_alive
        self._idle_until = 0.0  # loop time; 0 while a request is under way
        self._idle_timer: asyncio.TimerHandle | None = None
        self._clock: asyncio.TimerHandle | None = None  # until when the client must have sent more
        self._stall: StallWatch | None = None  # of a client that has been behind

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # Also after a request that says it is the last: what follows is answered in its turn, or not at all.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self.transport = transport
        self.flow = Flow(transport)
        transport.set_write_buffer_limits(self._limits.max_unsent_bytes)
        self._intake.connections += 1
        if self._intake.connections > self._limits.max_connections:
            self._turn_away()
        else:  # a client that never sends anything is held no longer than one that sends half a head
            self._clock = self.loop.call_later(self._limits.head_seconds, self._too_slow)
        if self._intake.draining:
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._arrived = self._arrivals.now()
        self._read_bytes = len(data)
        if self._message_open:
            self._unfinished_bytes += len(data)
            self._window_bytes += len(data)
        parser = self._parser
        assert parser is not None  # it is until the connection is lost
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            why = error.__context__  # what a callback raised, if it was one
            self._stop_listening(why if isinstance(why, GatewayError) else invalid())
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        if self._message_open:
            self._await_more()
        if self.pipeline:
            self._hold_back()

    def eof_received(self) -> None:
        """The transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(self)  # type: ignore[arg-type]
        self._intake.connections -= 1
        self._end_message()
        self._end_idle()
        if self._stall is not None:
            self._stall.end()
        self.pipeline.clear()
        running, self._running, self._coming = self._running, None, None
        if running is not None:
            running.left()
        asgi = self._asgi
        if asgi is not None and not asgi.response_complete:
            asgi.disconnected = True
            asgi.message_event.set()
        self.flow.resume_writing()  # whoever waits for that gets to see that the client is gone
        if exc is None:
            self.transport.close()
        following, self._next, self._resting = self._next, None, None
        if following is not None and not following.done():
            following.set_result(None)
        self._parser = self.cycle = self._asgi = None  # each of them knows this connection: no cycles are left
        self._on_answered = _nothing

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        if self._stall is not None and not self.transport.is_closing():
            self._stall.end()
        if self._running is not None:
            self._running.caught_up()

    # The parser's callbacks

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._expects_100 = False
        self._idle_until = 0.0  # here, as empty lines between two requests are none
        self._message_open = self._in_head = True
        self._unfinished_bytes = self._read_bytes

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes after it is a trailer: nothing here reads one
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._clock is not None:  # that of the head
            self._end_clock()
        if self._deaf:
            return
        headers = self._headers
        if self._unfinished_bytes > MAX_HEAD_BYTES and sum([len(n) + len(v) for n, v in headers]) > MAX_HEAD_BYTES:
            raise large_head(MAX_HEAD_BYTES)
        parser = self._parser
        assert parser is not None  # it is what calls
        version = parser.get_http_version()
        length, self._expects_100 = judge(version, headers)
        if parser.should_upgrade():
            self._offers_upgrade = True
            return
        keep_alive = version != "1.0" and parser.should_keep_alive() and not self._leaving
        path = self._paths.get(self._url)
        if path is None or parser.get_method() != b"POST":
            path = self._other_target(parser, version, keep_alive)
            if path is None:
                return
        self._coming = exchange = self._exchange(path, version, keep_alive)
        if length is not None and length > self._max_body_bytes:
            exchange.refusal = large_body(self._max_body_bytes)
        elif self._expects_100:
            exchange.refusal = self._screen(exchange)
        if exchange.refusal is not None and self._expects_100:
            exchange.keep_alive = False  # the client may send the body or not: what follows could be either
        self._queue(exchange)

    def on_body(self, body: bytes) -> None:
        self._unfinished_bytes = 0
        exchange = self._coming
        if exchange is None:
            self._feed_asgi(body)
            return
        if exchange.refusal is not None:
            return  # read and dropped, so that a client busy sending gets to see its answer
        exchange.body_parts.append(body)
        exchange.body_size += len(body)
        if exchange.body_size > self._max_body_bytes:
            self._refuse(exchange, large_body(self._max_body_bytes))

    def on_message_complete(self) -> None:
        if self._offers_upgrade:
            return
        self._end_message()
        exchange, self._coming = self._coming, None
        if exchange is None:
            cycle = self.cycle
            if cycle is not None and not cycle.response_complete:
                cycle.more_body = False
                cycle.message_event.set()
            return
        exchange.more_body = False
        exchange.arrived = self._arrived
        if exchange.response_complete:
            self._close_if_last(exchange)
        else:
            self._proceed(exchange)

    # A request and its turn

    def _other_target(self, parser: httptools.HttpRequestParser, version: str, keep_alive: bool) -> str | None:
        """The path of a request whose target is more than that, if it is of the data plane; else ASGI gets it."""
        url = self._url
        target = httptools.parse_url(url)
        if not target.path or b"#" in url:  # RFC 9112, 3.2
            raise invalid()
        method = parser.get_method()
        path = self._paths.get(target.path)
        if path is not None and method == b"POST":
            return path
        cycle: Any = cycle_of(
            self._config,
            self.transport,
            self.flow,
            self._app_state,
            version=version,
            method=method.decode("ascii"),
            path=target.path,
            query=target.query or b"",
            headers=self._headers,
            default_headers=self.server_state.default_headers,
            expect_100_continue=self._expects_100,
            keep_alive=keep_alive,
            on_response=self._after_response,
        )
        self._queue(cycle)
        return None

    def _feed_asgi(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > _MOST_BUFFERED:
            self.flow.pause_reading()
        cycle.message_event.set()

    def _end_message(self) -> None:
        self._message_open = False
        if self._clock is not None:
            self._end_clock()
        if self._screened:
            self._screened = False
            self._intake.receiving_bytes -= self._received_bytes
            self._received_bytes = 0

    def _await_more(self) -> None:
        """A read has ended in the middle of a request: nothing of it may grow without bound or take for ever."""
        if self._unfinished_bytes > MAX_UNFINISHED_BYTES:
            self._stop_listening(large_head(MAX_HEAD_BYTES))
            return
        exchange = self._coming
        if exchange is not None and exchange.refusal is None:
            if not self._screened:
                self._screened = True
                length = exchange.header(b"content-length")
                if length is None or int(length) > self._limits.screen_above_bytes:
                    error = self._screen(exchange)
                    if error is not None:
                        self._refuse(exchange, error)
            self._intake.receiving_bytes += exchange.body_size - self._received_bytes
            self._received_bytes = exchange.body_size
            if self._intake.receiving_bytes > self._limits.max_receiving_bytes and exchange.refusal is None:
                self._refuse(exchange, no_room())
        if self._clock is None:
            self._window_bytes = 0
            if self._in_head:
                self._clock = self.loop.call_later(self._limits.head_seconds, self._too_slow)
            else:
                self._clock = self.loop.call_later(self._limits.body_seconds, self._look_at_pace)

    def _hold_back(self) -> None:
        """Requests wait for their turn. What is still read for them is bounded, and until then a client that leaves is
        noticed at once."""
        waiting = self.pipeline
        if len(waiting) > self._limits.max_pipelined or sum(map(_held, waiting)) > self._limits.max_pipelined_bytes:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def _exchange(self, path: str, version: str, keep_alive: bool) -> Exchange:
        return Exchange(
            self.loop,
            self.transport,
            self.flow,
            path,
            self._headers,
            version,
            keep_alive,
            self._expects_100,
            self._intake.common_lines,
            self._on_answered,
            self._arrived,
        )

    def _queue(self, cycle: Any) -> None:
        """Its turn is now, or when those before are answered."""
        previous, self.cycle = self.cycle, cycle
        if previous is None or previous.response_complete:
            self._take_turn(cycle)
        else:
            self.pipeline.append(cycle)

    def _take_turn(self, cycle: Any) -> None:
        if isinstance(cycle, Exchange):
            self._running = cycle
            if cycle.expect_100_continue and cycle.more_body and cycle.refusal is None:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._proceed(cycle)
            return
        self._asgi = cycle
        task: asyncio.Task[None] = self.loop.create_task(cycle.run_asgi(self._app))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        """Before its body is whole: what has come of it is dropped, and so is what still comes."""
        exchange.refusal = error
        exchange.body_parts.clear()
        exchange.body_size = 0
        self._intake.receiving_bytes -= self._received_bytes
        self._received_bytes = 0
        self._proceed(exchange)

    def _proceed(self, exchange: Exchange) -> None:
        """Has the request answered as soon as it is both whole (or refused) and its turn."""
        if exchange is not self._running or exchange.on_leave is not None:  # the latter: it is being answered
            return
        if exchange.refusal is None and exchange.more_body:
            return
        task, following = self._resting, self._next
        self._resting = self._next = None
        if task is None or following is None or following.done():
            task = self.loop.create_task(self._answer(exchange))
            task.add_done_callback(self._tasks.discard)  # it may be cancelled before it begins
        else:
            following.set_result(exchange)
        self._tasks.add(task)
        exchange.on_leave = task.cancel

    async def _answer(self, exchange: Exchange) -> None:
        """Answers one exchange after another: a task for each took 3 us more. At most one such task rests; it ends with
        its connection, or once it was cancelled."""
        task = asyncio.current_task()
        assert task is not None
        while True:
            await self._handler(exchange)
            self._tasks.discard(task)
            if self._resting is not None or self._parser is None or task.cancelling():
                return
            self._resting = task
            self._next = following = _Future(loop=self.loop)
            upcoming = await following
            if upcoming is None:
                return
            exchange = upcoming

    # The end of an answer

    def _after_exchange(self) -> None:
        exchange, self._running = self._running, None
        assert exchange is not None  # it is what calls
        if exchange.body_size > self._limits.screen_above_bytes:  # this connection knows it until the next one comes
            exchange.body_parts.clear()
        if exchange.more_body:  # refused, and its body still coming: that is bounded in time and not in bytes
            self._end_clock()
            self._clock = self.loop.call_later(self._limits.body_seconds, self.transport.abort)
        self._close_if_last(exchange)
        self._after_response()

    def _after_response(self) -> None:
        """Of either plane: the next request has its turn, or the connection is idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._take_turn(self.pipeline.pop(0))
            if self.pipeline:
                self._hold_back()
        elif not self._message_open:  # else the next one has begun: its own clock runs
            self._idle_until = self.loop.time() + self.timeout_keep_alive
            if self._idle_timer is None:
                self._idle_timer = self.loop.call_at(self._idle_until, self._look_if_idle)

    def _close_if_last(self, exchange: Exchange) -> None:
        """Never on a client that is still sending: the reset it would get for that can overtake the answer."""
        if exchange.keep_alive or exchange.more_body:
            return
        if self._deaf:
            self._linger()
            return
        self._deaf = True
        if self.transport.get_write_buffer_size():
            self._watch_taking()
        self.transport.close()

    def _linger(self) -> None:
        """The end is said after what was answered; then the client closes, or time does (RFC 9112, 9.6)."""
        self._end_clock()
        self.transport.write_eof()
        self._clock = self.loop.call_later(self._limits.linger_seconds, self._end_linger)
        if self.transport.get_write_buffer_size():
            self._watch_taking()

    def _end_linger(self) -> None:
        if self.transport.get_write_buffer_size():  # an answer before the last is still being taken
            self._clock = self.loop.call_later(self._limits.linger_seconds, self._end_linger)
        else:
            self.transport.abort()

    def _turn_away(self) -> None:
        """No place for this client."""
        self._deaf = True
        self._intake.turn_away()
        self.transport.write(no_place())
        if self._intake.connections > self._limits.max_connections + self._limits.max_lingering:
            self.transport.close()
        else:
            self._linger()

    # An idle connection

    def _look_if_idle(self) -> None:
        """The timer was set when the connection last became idle with none running; it may have worked since."""
        self._idle_timer = None
        until = self._idle_until
        if not until:
            return
        if self.loop.time() < until:
            self._idle_timer = self.loop.call_at(until, self._look_if_idle)
        elif self.transport.get_write_buffer_size():  # an answer nobody takes: closing would wait for that for ever
            self.transport.abort()
        else:
            self.transport.close()

    def _end_idle(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def shutdown(self) -> None:
        """Ends the connection with the next answer that can say so, or when it has been quiet for long enough."""
        now, until = self.loop.time(), self._idle_until
        quiet = now + self.timeout_keep_alive - until if until else 0.0
        self._leaving = True
        self.timeout_keep_alive = self._limits.quiet_seconds
        self._end_idle()
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not (cycle.started if isinstance(cycle, Exchange) else cycle.response_started):
                cycle.keep_alive = False
        elif not self._message_open:
            self._idle_until = max(now, now + self._limits.quiet_seconds - quiet)
            self._idle_timer = self.loop.call_at(self._idle_until, self._look_if_idle)

    # A client that does not take its answer

    def _watch_taking(self) -> None:
        if self._stall is None:
            limits = self._limits
            self._stall = StallWatch(self.loop, self.transport, limits.stall_seconds, limits.min_taken_bytes)
        self._stall.begin()

    # A client that can not be understood, or not in time

    def _decline_upgrade(self, rest: bytes) -> None:
        """Some clients offer HTTP/2 with their first request; a server may answer as if they had not (RFC 9110, 7.8).

        The parser can not be told so and has skipped the body: another starts again, on the same head without the
        offer.
        """
        self._offers_upgrade = False
        parser = self._parser
        assert parser is not None
        method = parser.get_method()
        if method == b"CONNECT":
            self._stop_listening(invalid())
            return
        lines = [b"%b: %b" % (name, value) for name, value in self._headers if name not in _UPGRADE_OFFER]
        if not parser.should_keep_alive():
            lines.append(b"connection: close")
        head = [b"%b %b HTTP/%b" % (method, self._url, parser.get_http_version().encode()), *lines, b"\r\n"]
        self._parser = self._new_parser()
        self.data_received(b"\r\n".join(head) + rest)

    def _stop_listening(self, error: GatewayError) -> None:
        """Nothing this client still sends can be understood. It is told so in its turn, and that is the end."""
        self._deaf = True
        self._end_message()
        refused, self._coming = self._coming, None
        cycle: Any = self.cycle
        if cycle is not None and cycle.more_body and (refused is None or refused.response_complete):
            # A body that will never be whole: of a request that is answered already, or waits for its turn, or that an
            # application waits for.
            if cycle.response_complete:
                self._linger()
                return
            if self.pipeline and self.pipeline[-1] is cycle:
                self.pipeline.pop()
            elif cycle.response_started:
                self.transport.abort()
                return
            else:
                cycle.disconnected = cycle.response_complete = True  # which is what the application hears
                cycle.message_event.set()
        if refused is None:
            refused = self._exchange("", "1.1", False)
            self._queue(refused)
        refused.keep_alive = refused.more_body = False
        if refused.refusal is None:
            self._refuse(refused, error)
        else:
            self._proceed(refused)

    def _look_at_pace(self) -> None:
        self._clock = None
        if self._window_bytes < self._limits.min_body_bytes and not self.flow.read_paused:  # else it is we who wait
            self._too_slow()
            return
        self._window_bytes = 0
        self._clock = self.loop.call_later(self._limits.body_seconds, self._look_at_pace)

    def _too_slow(self) -> None:
        self._clock = None
        if not self._message_open:
            self.transport.close()  # it has asked for nothing
        elif self.flow.read_paused:  # it is we who do not read: its turn has not come
            self._clock = self.loop.call_later(self._limits.head_seconds, self._too_slow)
        else:
            self._stop_listening(slow())

    def _end_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


def _held(cycle: Any) -> int:
    """Bytes of a request that waits for its turn."""
    if isinstance(cycle, Exchange):
        headers, body = cycle.headers, cycle.body_size
    else:
        headers, body = cycle.scope["headers"], len(cycle.body)
    return body + sum([len(name) + len(value) for name, value in headers])


def _nothing() -> None:
    """Of a connection that is lost."""
