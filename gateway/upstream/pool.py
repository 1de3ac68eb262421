"""The connections of one worker: opened when needed, kept while fresh, bounded in number."""

from __future__ import annotations

import asyncio
import errno
import re
import ssl
from collections.abc import Coroutine
from typing import Any, Final, cast
from urllib.parse import urlsplit

from gateway.clock import monotonic
from gateway.errors import Overloaded, WorkerUnreachable
from gateway.table import Timeout
from gateway.upstream.connection import Asker, Connection, ConnectionLost, Pulse
from gateway.upstream.response import Response

MAX_CONNECTIONS: Final = 16_384
# Servers built on uvicorn close an idle connection after 5 s unless told otherwise; a request sent at that moment is
# lost. Connections idle for longer than this are closed from our side instead.
IDLE_SECONDS: Final = 4.0


class Pool:
    """Requests to one worker. Newest connection first, so the rest age and close when the load falls.

    `url` is the worker's base URL; a base that ends in `/v1` (hosted endpoints) takes the place of that prefix.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        tls: ssl.SSLContext | None = None,
        max_connections: int = MAX_CONNECTIONS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not re.fullmatch(r"[!-~]+", url):
            raise ValueError(f"not an http(s) URL: {url!r}")
        self._url, self._api_key = url, api_key
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._prefix = parts.path.rstrip("/")
        authorization = f"authorization: Bearer {api_key}\r\n" if api_key else ""
        self._fixed_headers = f"host: {parts.netloc.rpartition('@')[2]}\r\n{authorization}".encode("latin-1")
        self._heads: dict[str, bytes] = {}
        self._pulse = Pulse()
        self._idle: list[Connection] = []  # the latest at its end
        self._open: set[Connection] = set()
        self._connecting = 0
        self._max_connections = max_connections
        self._idle_seconds = idle_seconds
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def connections(self) -> int:
        return len(self._open) + self._connecting

    def beside(self) -> Pool:
        """Another pool to the same worker, of one connection, for what is to take none of the requests'. What either
        hears, both have heard."""
        pool = Pool(self._url, api_key=self._api_key, tls=self._tls, max_connections=1)
        pool._pulse = self._pulse
        return pool

    @property
    def heard_at(self) -> float:
        """When the worker last sent anything, in monotonic seconds; 0 before it has."""
        return self._pulse.heard_at

    def request(
        self,
        path: str,
        content_type: bytes,
        body: bytes,
        headers: bytes,
        deadlines: Timeout,
        asker: Asker | None = None,
    ) -> Coroutine[Any, Any, Response]:
        """To be awaited at once: POSTs `body` and returns the answer when its headers are in.

        `headers` are further header lines, each ended by CRLF; `asker` decides what `leave` does. Raises
        `WorkerUnreachable` when no connection can be had, `Overloaded` at the connection limit, `WorkerBroke` and
        `WorkerTimeout` from the exchange.
        """
        head = self._heads.get(path) or self._head(path)
        message = b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
            head,
            headers,
            content_type,
            len(body),
            body,
        )
        return self._exchange(message, deadlines, asker)

    def get(self, path: str, deadlines: Timeout) -> Coroutine[Any, Any, Response]:
        """GETs `path`, like `request`."""
        message = b"GET %b HTTP/1.1\r\n%b\r\n" % (self._target(path), self._fixed_headers)
        return self._exchange(message, deadlines, None)

    def leave(self) -> int:
        """Has requests of which no byte of an answer's body has come go to other workers, those that may; how many."""
        return sum([connection.leave() for connection in list(self._open)])

    async def _exchange(self, message: bytes, deadlines: Timeout, asker: Asker | None) -> Response:
        connection = self._take_idle()
        if connection is not None:
            try:
                return await connection.exchange(message, deadlines, asker)
            except ConnectionLost:
                pass  # it had gone stale; a fresh connection decides
        connection = await self._connect(deadlines.connect)
        try:
            return await connection.exchange(message, deadlines, asker)
        except ConnectionLost:
            raise WorkerUnreachable("The worker closed the connection without an answer.") from None

    async def close(self) -> None:
        """Closes idle connections now and busy ones when their exchange ends."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        while self._idle:
            self._retire(self._idle.pop())

    def _head(self, path: str) -> bytes:
        head = b"POST %b HTTP/1.1\r\n%b" % (self._target(path), self._fixed_headers)
        self._heads[path] = head
        return head

    def _target(self, path: str) -> bytes:
        target = self._prefix + path.removeprefix("/v1") if self._prefix.endswith("/v1") else self._prefix + path
        return target.encode("ascii")

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                if connection.idle_since >= monotonic() - self._idle_seconds:
                    return connection
                self._retire(connection)
        return None

    async def _connect(self, seconds: float) -> Connection:
        if self.connections >= self._max_connections:
            raise Overloaded("Every connection to the chosen worker is in use.", retry_after=1.0)
        loop = asyncio.get_running_loop()
        connection = Connection(loop, self._release, self._forget, self._pulse)
        self._connecting += 1
        try:
            async with asyncio.timeout(seconds):
                await loop.create_connection(
                    lambda: cast("asyncio.Protocol", connection),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except TimeoutError:
            raise WorkerUnreachable("The worker could not be reached in time.") from None
        # refused, unroutable, certificate refused (ssl.SSLError), name not found or not even a name (UnicodeError)
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):  # no fault of this worker's
                raise Overloaded("The gateway has no room for another connection.", retry_after=1.0) from None
            raise WorkerUnreachable(f"The worker could not be reached ({type(error).__name__}).") from error
        finally:
            self._connecting -= 1
        if connection.is_open:  # else it has been forgotten already, and its exchange will say so
            self._open.add(connection)
        return connection

    def _release(self, connection: Connection) -> None:
        if self._closed:
            connection.close()
            return
        connection.idle_since = self._pulse.heard_at  # which is now: its answer has ended
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = connection.loop.call_later(self._idle_seconds, self._sweep)

    def _retire(self, connection: Connection) -> None:
        connection.close()
        self._open.discard(connection)  # now and not when it is lost: its place is free for the next one

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)

    def _sweep(self) -> None:
        """Closes connections that have been idle too long: the oldest are at the left."""
        self._sweeper = None
        loop = asyncio.get_running_loop()
        stale = monotonic() - self._idle_seconds
        end = 0
        while end < len(self._idle) and (self._idle[end].idle_since < stale or not self._idle[end].is_open):
            end += 1
        too_long, self._idle = self._idle[:end], self._idle[end:]
        for connection in too_long:
            self._retire(connection)
        if self._idle:
            self._sweeper = loop.call_at(self._idle[0].idle_since + self._idle_seconds + 0.01, self._sweep)
