"""One data-plane request of a client and the answer it gets, written straight to the client's transport.

ASGI would cost a dict per message and a task switch per event. This object takes the place of uvicorn's
request-response cycle: the attributes in its first group are those that a connection uses of either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

from gateway.clock import monotonic
from gateway.downstream.flow import Flow
from gateway.errors import GatewayError

Headers = list[tuple[bytes, bytes]]

_STATUS_LINES: Final = {status.value: b"HTTP/1.1 %d %b" % (status, status.phrase.encode()) for status in HTTPStatus}

# Of a chunk, by its size: one is looked up in a tenth of the time that it takes to write a number.
_MOST_SIZES: Final = 2048
_SIZE_LINES: Final = [b"%x\r\n" % size for size in range(_MOST_SIZES)]


class Exchange:
    """What the story of a request needs from its client: the request, three ways to answer, and word of its leaving.

    Answer with `respond` (whole), or with `start`, `write`… and `finish` (stream). `on_leave` is called once if the
    client closes before the answer is complete; `on_drain` each time a client that fell behind has caught up.
    """

    __slots__ = (
        "_chunked",
        "_common_lines",
        "_flow",
        "_on_response",
        "_transport",
        "arrived",
        "body_parts",
        "body_size",
        "disconnected",
        "expect_100_continue",
        "headers",
        "http_version",
        "keep_alive",
        "left_at",
        "loop",
        "more_body",
        "on_drain",
        "on_leave",
        "path",
        "refusal",
        "response_complete",
        "started",
        "status",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        flow: Flow,
        path: str,
        headers: Headers,
        http_version: str,
        keep_alive: bool,
        expect_100_continue: bool,
        common_lines: list[bytes],
        on_response: Callable[[], None],
        arrived: float,
    ) -> None:
        # what the connection uses
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = keep_alive
        self.more_body = True
        # what the story uses
        self.loop = loop
        self.path = path
        self.headers = headers
        self.http_version = http_version
        self.expect_100_continue = expect_100_continue
        self.arrived = arrived  # monotonic seconds at which the last of it had come
        self.body_parts: list[bytes] = []
        self.body_size = 0
        self.refusal: GatewayError | None = None  # known before the body was whole
        self.started = False
        self.status = 0
        self.left_at = 0.0
        self.on_leave: Callable[[], object] | None = None
        self.on_drain: Callable[[], object] | None = None
        self._transport = transport
        self._flow = flow
        self._common_lines = common_lines
        self._on_response = on_response
        self._chunked = False

    def header(self, name: bytes) -> bytes | None:
        """The first value of a request header, by its lowercase name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    @property
    def body(self) -> bytes:
        parts = self.body_parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def is_behind(self) -> bool:
        """Whether the client has not taken what was written: stop reading from the worker until `on_drain`."""
        return self._flow.write_paused

    def respond(self, status: int, content_type: bytes, headers: list[bytes], body: bytes) -> None:
        """One whole answer. `headers` are lines without CRLF."""
        if self.disconnected or self.response_complete:
            return
        self.started = True
        self.status = status
        lines = self._head(status, content_type, headers, b"content-length: " + str(len(body)).encode())
        lines.append(b"")
        lines.append(body)
        self._transport.write(b"\r\n".join(lines))
        self._complete()

    def start(self, status: int, content_type: bytes, headers: list[bytes]) -> None:
        """The head of a streamed answer."""
        if self.disconnected or self.response_complete:
            return
        self.started = True
        self.status = status
        framing = b"cache-control: no-cache\r\nx-accel-buffering: no"
        if self.http_version == "1.1":
            self._chunked = True
            framing += b"\r\ntransfer-encoding: chunked"
        else:
            self.keep_alive = False  # HTTP/1.0 has no chunks: the end of the connection ends the body
        lines = self._head(status, content_type, headers, framing)
        lines.append(b"\r\n")
        self._transport.write(b"\r\n".join(lines))

    def write(self, data: bytes) -> None:
        """One piece of a streamed answer."""
        if not data or self.disconnected or self.response_complete:
            return
        if not self._chunked:
            self._transport.write(data)
            return
        size = len(data)
        line = _SIZE_LINES[size] if size < _MOST_SIZES else b"%x\r\n" % size
        self._transport.write(b"%b%b\r\n" % (line, data))

    def finish(self) -> None:
        """The end of a streamed answer."""
        if self.disconnected or self.response_complete:
            return
        if self._chunked:
            self._transport.write(b"0\r\n\r\n")
        self._complete()

    def cut(self) -> None:
        """Breaks the connection off: the client sees an answer that has no end."""
        self._transport.abort()

    def _head(self, status: int, content_type: bytes, headers: list[bytes], framing: bytes) -> list[bytes]:
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
        lines += headers
        lines.append(b"content-type: " + content_type)
        lines.append(framing)
        lines += self._common_lines
        if not self.keep_alive:
            lines.append(b"connection: close")
        return lines

    def _complete(self) -> None:
        self.response_complete = True
        self.on_leave = self.on_drain = None
        self._on_response()

    # The connection calls what follows.

    def left(self) -> None:
        """The client is gone."""
        self.disconnected = True
        self.left_at = monotonic()
        leave, self.on_leave, self.on_drain = self.on_leave, None, None
        if leave is not None:
            leave()

    def caught_up(self) -> None:
        """What was written has been taken."""
        if self.on_drain is not None:
            self.on_drain()


Handler = Callable[[Exchange], Coroutine[Any, Any, None]]
