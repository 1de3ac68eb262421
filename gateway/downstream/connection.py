"""A client's connection: uvicorn's, with the data-plane paths answered outside ASGI."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.downstream.arrivals import arrivals_of
from gateway.downstream.exchange import Exchange, Handler, new_request_id
from gateway.downstream.lean import LeanHttpProtocol
from gateway.errors import BadRequest, BodyTooLarge

REQUEST_SECONDS = 60.0  # to send one request's head and body in full
STALL_SECONDS = 60.0  # a client that does not take what was written for this long is cut off
MAX_HEAD_BYTES = 64 * 1024
# As read, to bound what the parser holds: more than one read brings, in which a head may be anywhere.
MAX_UNFINISHED_BYTES = 8 * MAX_HEAD_BYTES

_INVALID = BadRequest("The request is not valid HTTP.", code="invalid_http")
_LARGE_HEAD = BadRequest(
    f"The request's headers are larger than {MAX_HEAD_BYTES // 1024} KB.", code="headers_too_large"
)
_SLOW = BadRequest("The request took too long to arrive.", code="request_timeout")
_UPGRADE_OFFER = frozenset((b"connection", b"upgrade", b"http2-settings"))


class ClientConnection(LeanHttpProtocol):
    """Parsing, pipelining, keep-alive and graceful shutdown are uvicorn's; `handler` answers the paths in `paths`.

    A request of the data plane starts its task only when its body is complete, so that no body is awaited piecewise.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        handler: Handler,
        paths: frozenset[str],
        max_body_bytes: int,
        request_seconds: float = REQUEST_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._handler = handler
        self._paths = paths
        self._max_body_bytes = max_body_bytes
        self._request_seconds = request_seconds
        self._stall_seconds = stall_seconds
        self._coming: Exchange | None = None  # the data-plane request whose body is still coming
        self._running: Exchange | None = None  # the one whose turn it is to be answered
        self._asgi: Any = None  # the latest request that was given to ASGI
        self._message_open = False
        self._in_head = False
        self._offers_upgrade = False
        self._deaf = False  # whatever else the client sends is not for us
        self._unfinished_bytes = 0  # an upper bound: read since the head began or since the last byte of a body
        self._arrived = 0.0
        self._arrivals = arrivals_of(self.loop)
        self._read_bytes = 0
        self._complaint = _INVALID
        self._slow: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._arrived = self._arrivals.now()
        self._read_bytes = len(data)
        if self._message_open:
            self._unfinished_bytes += len(data)
        self._unset_keepalive_if_required()
        parser = self.parser
        assert parser is not None  # it is until the connection is lost
        try:
            parser.feed_data(data)
        except httptools.HttpParserError:
            self._stop_listening(self._complaint)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        if self._message_open:
            if self._unfinished_bytes > MAX_UNFINISHED_BYTES:
                self._stop_listening(_LARGE_HEAD)
            elif self._slow is None:
                self._slow = self.loop.call_later(self._request_seconds, self._too_slow)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._message_open = self._in_head = True
        self._unfinished_bytes = self._read_bytes

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes after it is a trailer: nothing here reads one
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._deaf:
            return
        if self._unfinished_bytes > MAX_HEAD_BYTES and sum(len(n) + len(v) for n, v in self.headers) > MAX_HEAD_BYTES:
            self._complaint = _LARGE_HEAD
            raise ValueError(_LARGE_HEAD.message)
        parser = self.parser
        assert parser is not None  # it is what calls
        if parser.should_upgrade():
            self._offers_upgrade = True
            return
        version = parser.get_http_version()
        self.expect_100_continue = version != "1.0" and (b"expect", b"100-continue") in self.headers
        target = httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        if path not in self._paths or parser.get_method() != b"POST":
            super().on_headers_complete()
            return
        self._coming = exchange = self._exchange(path, version, version != "1.0" and parser.should_keep_alive())
        declared = exchange.header(b"content-length")
        if declared is not None and int(declared) > self._max_body_bytes:
            exchange.refusal = self._too_large()
            if exchange.expect_100_continue:  # it may send the body or not: what follows could be either
                exchange.keep_alive = False
        if not self._queue(exchange):
            self.flow.pause_reading()

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
            exchange.body_parts.clear()
            exchange.refusal = self._too_large()
            self._proceed(exchange)

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
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _exchange(self, path: str, version: str, keep_alive: bool) -> Exchange:
        return Exchange(
            loop=self.loop,
            transport=self.transport,
            flow=self.flow,
            path=path,
            headers=self.headers,
            http_version=version,
            keep_alive=keep_alive,
            expect_100_continue=self.expect_100_continue,
            default_headers=self.server_state.default_headers,
            on_response=self._on_exchange_complete,
            arrived=self._arrived,
        )

    def _queue(self, exchange: Exchange) -> bool:
        """Whether it is its turn now; if not, it comes when those before are answered, where uvicorn keeps its own."""
        previous: Any = self.cycle
        self.cycle = exchange  # type: ignore[assignment]
        if previous is None or previous.response_complete:
            self._take_turn(exchange)
            return True
        self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]
        return False

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

    def _proceed(self, exchange: Exchange) -> None:
        """Answers the request as soon as it is both whole (or refused) and its turn."""
        if exchange is not self._running:
            return
        if exchange.refusal is not None:
            error = exchange.refusal
            headers = [b"x-request-id: " + new_request_id().encode(), b"x-should-retry: false"]
            exchange.respond(error.status, b"application/json", headers, error.body())
        elif not exchange.more_body:
            task = self.loop.create_task(self._handler(exchange))
            exchange.on_leave = task.cancel
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def _on_exchange_complete(self) -> None:
        exchange, self._running = self._running, None
        assert exchange is not None  # it is what calls
        self._close_if_last(exchange)
        self.on_response_complete()

    def _close_if_last(self, exchange: Exchange) -> None:
        """Never on a client that is still sending: the reset it would get for that can overtake the answer."""
        if not exchange.keep_alive and not exchange.more_body:
            self._deaf = True
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_message()
        self._end_stall()
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

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(self._stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_stall()
        if self._running is not None:
            self._running.caught_up()

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

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
            self._stop_listening(_INVALID)
            return
        lines = [b"%b: %b" % (name, value) for name, value in self.headers if name not in _UPGRADE_OFFER]
        if not parser.should_keep_alive():
            lines.append(b"connection: close")
        head = [b"%b %b HTTP/%b" % (method, self.url, parser.get_http_version().encode()), *lines, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.data_received(b"\r\n".join(head) + rest)

    def _stop_listening(self, error: BadRequest) -> None:
        """Nothing this client still sends can be understood. It is told so in its turn, and that is the end."""
        self._deaf = True
        self._end_message()
        refused, self._coming = self._coming, None
        cycle: Any = self.cycle
        if cycle is not None and cycle.more_body and (refused is None or refused.response_complete):
            # A body that will never be whole: of a request that is answered already, or that an application waits for.
            if cycle.response_complete:
                self.transport.close()
            else:
                self.transport.abort()
            return
        if refused is None:
            refused = self._exchange("", "1.1", False)
            self._queue(refused)
        refused.keep_alive = refused.more_body = False
        refused.refusal = error
        self._proceed(refused)

    def _too_slow(self) -> None:
        self._slow = None
        if self.flow.read_paused:  # it is we who do not read: its turn has not come
            self._slow = self.loop.call_later(self._request_seconds, self._too_slow)
        else:
            self._stop_listening(_SLOW)

    def _too_large(self) -> BodyTooLarge:
        limit = self._max_body_bytes // (1024 * 1024)
        return BodyTooLarge(f"The body is larger than {limit} MB, the most this server takes.")
