"""A client's connection: uvicorn's, with the data-plane paths answered outside ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.downstream.arrivals import arrivals_of
from gateway.downstream.exchange import Exchange, Handler
from gateway.downstream.framing import judge
from gateway.downstream.lean import LeanHttpProtocol
from gateway.downstream.limits import Intake
from gateway.downstream.refusals import invalid, large_body, large_head, no_place, no_room, slow
from gateway.downstream.stall import StallWatch
from gateway.errors import GatewayError

MAX_HEAD_BYTES = 64 * 1024
# As read, to bound what the parser holds: more than one read brings, in which a head may be anywhere.
MAX_UNFINISHED_BYTES = 8 * MAX_HEAD_BYTES

_UPGRADE_OFFER = frozenset((b"connection", b"upgrade", b"http2-settings"))

Screen = Callable[[Exchange], GatewayError | None]


class ClientConnection(LeanHttpProtocol):
    """Parsing, keep-alive and graceful shutdown are uvicorn's; `handler` answers the paths in `paths`, and every
    request that is refused here: an exchange with `refusal`, its `path` empty where the head was not understood.

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
        super().__init__(config, server_state, app_state, _loop)
        self._handler = handler
        self._screen = screen
        self._paths = paths
        self._intake = intake
        self._limits = intake.limits
        self._max_body_bytes = intake.limits.max_body_bytes
        self._coming: Exchange | None = None  # the data-plane request whose body is still coming
        self._screened = False  # that one has been looked at
        self._running: Exchange | None = None  # the one whose turn it is to be answered
        self._asgi: Any = None  # the latest request that was given to ASGI
        self._message_open = False
        self._in_head = False
        self._offers_upgrade = False
        self._leaving = False  # the next answer is the last
        self._deaf = False  # whatever else the client sends is not for us
        self._unfinished_bytes = 0  # an upper bound: read since the head began or since the last byte of a body
        self._window_bytes = 0  # read since the window began that the pace of a body is judged by
        self._received_bytes = 0  # of the body that is coming, as counted in the intake
        self._arrived = 0.0
        self._arrivals = arrivals_of(self.loop)
        self._read_bytes = 0
        self._clock: asyncio.TimerHandle | None = None  # until when the client must have sent more
        self._stall: StallWatch | None = None  # of a client that has been behind

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(self._limits.max_unsent_bytes)
        self._intake.connections += 1
        if self._intake.connections > self._limits.max_connections:
            self._turn_away()
        else:  # a client that never sends anything is held no longer than one that sends half a head
            self._clock = self.loop.call_later(self._limits.head_seconds, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._arrived = self._arrivals.now()
        self._read_bytes = len(data)
        if self._message_open:
            self._unfinished_bytes += len(data)
            self._window_bytes += len(data)
        parser = self.parser
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

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()  # empty lines between two requests are none
        self._message_open = self._in_head = True
        self._unfinished_bytes = self._read_bytes

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes after it is a trailer: nothing here reads one
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._clock is not None:  # that of the head
            self._end_clock()
        if self._deaf:
            return
        if self._unfinished_bytes > MAX_HEAD_BYTES and sum(len(n) + len(v) for n, v in self.headers) > MAX_HEAD_BYTES:
            raise large_head(MAX_HEAD_BYTES)
        parser = self.parser
        assert parser is not None  # it is what calls
        version = parser.get_http_version()
        length, self.expect_100_continue = judge(version, self.headers)
        if parser.should_upgrade():
            self._offers_upgrade = True
            return
        target = httptools.parse_url(self.url)
        if not target.path or b"#" in self.url:  # RFC 9112, 3.2
            raise invalid()
        path = target.path.decode("ascii")
        if path not in self._paths or parser.get_method() != b"POST":
            super().on_headers_complete()
            if self._leaving:
                self.cycle.keep_alive = False
            return
        keep_alive = version != "1.0" and parser.should_keep_alive() and not self._leaving
        self._coming = exchange = self._exchange(path, version, keep_alive)
        if length is not None and length > self._max_body_bytes:
            exchange.refusal = large_body(self._max_body_bytes)
        elif self.expect_100_continue:
            exchange.refusal = self._screen(exchange)
        if exchange.refusal is not None and self.expect_100_continue:
            exchange.keep_alive = False  # the client may send the body or not: what follows could be either
        self._queue(exchange)

    def on_body(self, body: bytes) -> None:
        self._unfinished_bytes = 0
        exchange = self._coming
        if exchange is None:
            super().on_body(body)
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
            super().on_message_complete()
            return
        exchange.more_body = False
        exchange.arrived = self._arrived
        if exchange.response_complete:
            self._close_if_last(exchange)
        else:
            self._proceed(exchange)

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
        return Exchange(  # by position: compiled code takes 0.9 us to sort eleven names
            self.loop,
            self.transport,
            self.flow,
            path,
            self.headers,
            version,
            keep_alive,
            self.expect_100_continue,
            self.server_state.default_headers,
            self._on_exchange_complete,
            self._arrived,
        )

    def _queue(self, exchange: Exchange) -> None:
        """Its turn is now or when those before are answered; until then it waits where uvicorn keeps its own."""
        previous: Any = self.cycle
        self.cycle = exchange  # type: ignore[assignment]
        if previous is None or previous.response_complete:
            self._take_turn(exchange)
        else:
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """uvicorn's name for giving the next request its turn."""
        if isinstance(cycle, Exchange):
            self._take_turn(cycle)
        else:
            self._asgi = cycle
            super()._start_asgi_task(cycle, app)

    def _take_turn(self, exchange: Exchange) -> None:
        self._running = exchange
        if exchange.expect_100_continue and exchange.more_body and exchange.refusal is None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._proceed(exchange)

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
        if exchange.refusal is not None or not exchange.more_body:
            task = self.loop.create_task(self._handler(exchange))
            exchange.on_leave = task.cancel
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._message_open:  # the next one has begun: its own clock runs
            self._idle_until = None
        if self.pipeline:
            self._hold_back()

    def _on_exchange_complete(self) -> None:
        exchange, self._running = self._running, None
        assert exchange is not None  # it is what calls
        if exchange.body_size > self._limits.screen_above_bytes:  # this connection knows it until the next one comes
            exchange.body_parts.clear()
        if exchange.more_body:  # refused, and its body still coming: that is bounded in time and not in bytes
            self._end_clock()
            self._clock = self.loop.call_later(self._limits.body_seconds, self.transport.abort)
        self._close_if_last(exchange)
        self.on_response_complete()

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

    def connection_lost(self, exc: Exception | None) -> None:
        self._intake.connections -= 1
        self._end_message()
        if self._stall is not None:
            self._stall.end()
        self.pipeline.clear()
        running, self._running, self._coming = self._running, None, None
        if running is not None:
            running.left()
        if isinstance(self.cycle, Exchange):
            self.cycle.disconnected = True
            self.cycle = None  # type: ignore[assignment]  # uvicorn would wake an ASGI task that there is not
        if self._asgi is not None and not self._asgi.response_complete:  # uvicorn tells only the latest request
            self._asgi.disconnected = True
            self._asgi.message_event.set()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():  # an answer nobody takes: closing would wait for that for ever
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """Ends the connection with the next answer that can say so, or when it has been quiet for long enough."""
        now, until = self.loop.time(), self._idle_until
        quiet = 0.0 if until is None else now + self.timeout_keep_alive - until
        self._leaving = True
        self.timeout_keep_alive = self._limits.quiet_seconds
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not (cycle.started if isinstance(cycle, Exchange) else cycle.response_started):
                cycle.keep_alive = False
        elif not self._message_open:
            self._idle_until = max(now, now + self._limits.quiet_seconds - quiet)
            self.timeout_keep_alive_task = self.loop.call_at(self._idle_until, self._look_if_idle)

    # A client that does not take its answer

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None and not self.transport.is_closing():
            self._stall.end()
        if self._running is not None:
            self._running.caught_up()

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
        parser = self.parser
        assert parser is not None
        method = parser.get_method()
        if method == b"CONNECT":
            self._stop_listening(invalid())
            return
        lines = [b"%b: %b" % (name, value) for name, value in self.headers if name not in _UPGRADE_OFFER]
        if not parser.should_keep_alive():
            lines.append(b"connection: close")
        head = [b"%b %b HTTP/%b" % (method, self.url, parser.get_http_version().encode()), *lines, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
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
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
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


def _held(waiting: tuple[Any, Any]) -> int:
    """Bytes of a request that waits for its turn."""
    cycle = waiting[0]
    if isinstance(cycle, Exchange):
        headers, body = cycle.headers, cycle.body_size
    else:
        headers, body = cycle.scope["headers"], len(cycle.body)
    return body + sum(len(name) + len(value) for name, value in headers)
