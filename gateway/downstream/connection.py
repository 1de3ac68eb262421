"""A client's connection: uvicorn's, with the data-plane paths answered outside ASGI."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.downstream.exchange import Exchange, Handler, arrival_time, new_request_id
from gateway.errors import BadRequest, BodyTooLarge

REQUEST_SECONDS = 60.0  # to send one request's head and body in full
MAX_HEAD_BYTES = 64 * 1024


class ClientConnection(HttpToolsProtocol):
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
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._handler = handler
        self._paths = paths
        self._max_body_bytes = max_body_bytes
        self._coming: Exchange | None = None  # the data-plane request whose body is still coming
        self._running: Exchange | None = None  # the one whose turn it is to be answered
        self._message_open = False
        self._in_head = False
        self._head_bytes = 0  # an upper bound: bytes read since the head began, the read it began in included
        self._arrived = 0.0
        self._read_bytes = 0
        self._slow: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self._arrived = arrival_time(self.loop)
        self._read_bytes = len(data)
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("the head is too large")
        if self._message_open and self._slow is None and not self.transport.is_closing():
            self._slow = self.loop.call_later(REQUEST_SECONDS, self._too_slow)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._message_open = self._in_head = True
        self._head_bytes = self._read_bytes

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes after it is a trailer: nothing here reads one
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._head_bytes > MAX_HEAD_BYTES and sum(len(n) + len(v) for n, v in self.headers) > MAX_HEAD_BYTES:
            raise ValueError(f"a head above {MAX_HEAD_BYTES} bytes")
        self.expect_100_continue = (b"expect", b"100-continue") in self.headers
        parser = self.parser
        assert parser is not None  # it is what calls
        target = httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        if path not in self._paths or parser.get_method() != b"POST":
            super().on_headers_complete()
            return
        version = parser.get_http_version()
        previous: Any = self.cycle
        exchange = Exchange(
            loop=self.loop,
            transport=self.transport,
            flow=self.flow,
            path=path,
            headers=self.headers,
            http_version=version,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            expect_100_continue=self.expect_100_continue,
            default_headers=self.server_state.default_headers,
            on_response=self._on_exchange_complete,
            arrived=self._arrived,
        )
        self.cycle = exchange  # type: ignore[assignment]
        self._coming = exchange
        declared = exchange.header(b"content-length")
        if declared is not None and int(declared) > self._max_body_bytes:
            exchange.refusal = self._too_large()
        if previous is None or previous.response_complete:
            self._take_turn(exchange)
        else:  # pipelined: its turn comes when the one before is answered
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]

    def on_body(self, body: bytes) -> None:
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
        exchange, self._coming = self._coming, None
        self._message_open = False
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        if exchange is None:
            super().on_message_complete()
            return
        exchange.more_body = False
        self._proceed(exchange)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """uvicorn's name for giving the next request its turn."""
        if isinstance(cycle, Exchange):
            self._take_turn(cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def _take_turn(self, exchange: Exchange) -> None:
        self._running = exchange
        if exchange.expect_100_continue and exchange.more_body and exchange.refusal is None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._proceed(exchange)

    def _proceed(self, exchange: Exchange) -> None:
        """Answers the request as soon as it is both whole (or refused) and its turn."""
        if exchange is not self._running or exchange.response_complete:
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
        self._running = None
        self.on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        self.pipeline.clear()
        running, self._running, self._coming = self._running, None, None
        if running is not None:
            running.left()
        if isinstance(self.cycle, Exchange):
            self.cycle.disconnected = True
            self.cycle = None  # type: ignore[assignment]  # uvicorn would wake an ASGI task that there is not
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._running is not None:
            self._running.fell_behind()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._running is not None:
            self._running.caught_up()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to bytes that are not HTTP, in the OpenAI shape."""
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self.transport.abort()  # an answer is under way: nothing may be written into it
            return
        body = BadRequest("The request is not valid HTTP.", code="invalid_http").body()
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()

    def _too_slow(self) -> None:
        self._slow = None
        if self._message_open:
            self.transport.close()

    def _too_large(self) -> BodyTooLarge:
        limit = self._max_body_bytes // (1024 * 1024)
        return BodyTooLarge(f"The body is larger than {limit} MB, the most this server takes.")
