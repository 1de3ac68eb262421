"""One data-plane request of a client and the answer it gets, written straight to the client's transport.

ASGI would cost a dict per message and a task switch per event. This object takes the place of uvicorn's own
request-response cycle: the attributes in its first group are the ones uvicorn's connection reads and writes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

from gateway.clock import monotonic, wall_ns
from gateway.errors import GatewayError

Headers = list[tuple[bytes, bytes]]

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


class Exchange:
    """What the story of a request needs from its client: the request, three ways to answer, and word of its leaving.

    Answer with `respond` (whole), or with `start`, `write`… and `finish` (stream). `on_leave` is called once if the
    client closes before the answer is complete; `on_drain` each time a client that fell behind has caught up.
    """

    __slots__ = (
        "_chunked",
        "_default_headers",
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
        flow: FlowControl,
        path: str,
        headers: Headers,
        http_version: str,
        keep_alive: bool,
        expect_100_continue: bool,
        default_headers: Headers,
        on_response: Callable[[], None],
        arrived: float,
    ) -> None:
        # what uvicorn's connection uses
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
        self._default_headers = default_headers
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
        lines = [*headers, b"content-type: " + content_type, b"content-length: %d" % len(body)]
        self._transport.write(self._head(status, lines) + body)
        self._complete()

    def start(self, status: int, content_type: bytes, headers: list[bytes]) -> None:
        """The head of a streamed answer."""
        if self.disconnected or self.response_complete:
            return
        self.started = True
        self.status = status
        lines = [*headers, b"content-type: " + content_type, b"cache-control: no-cache", b"x-accel-buffering: no"]
        if self.http_version == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked")
        else:
            self.keep_alive = False  # HTTP/1.0 has no chunks: the end of the connection ends the body
        self._transport.write(self._head(status, lines))

    def write(self, data: bytes) -> None:
        """One piece of a streamed answer."""
        if not data or self.disconnected or self.response_complete:
            return
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

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

    def _head(self, status: int, lines: list[bytes]) -> bytes:
        lines += [b"%b: %b" % pair for pair in self._default_headers]
        if not self.keep_alive:
            lines.append(b"connection: close")
        return (_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status) + b"\r\n".join(lines) + b"\r\n\r\n"

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


def new_request_id(milliseconds: int = 0) -> str:
    """A new id: 48 bits of Unix milliseconds (0: now), then 64 random ones, so that ids sort by time and rows of the
    ledger are appended.

    Always the gateway's own: bills hang on it, and a client could send the same one twice.
    """
    return "req_%028x" % ((milliseconds or wall_ns() // 1_000_000) << 64 | random.getrandbits(64))
