"""A worker on a real socket that follows a script, one per connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Self

from gateway.table import Timeout
from gateway.upstream.pool import Pool
from gateway.upstream.response import Response

PATIENT = Timeout(connect=10.0, first_token=10.0, idle=10.0, total=10.0)
JSON = b"application/json"


class Asked(NamedTuple):
    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class Peer:
    """The worker's end of one connection."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.asked: list[Asked] = []

    async def request(self) -> Asked:
        """The next request in full; IncompleteReadError when the gateway closes instead."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.split("\r\n")[:-2]
        headers = [(name.lower(), value) for name, _, value in (each.partition(": ") for each in rest)]
        length = int(dict(headers)["content-length"])
        asked = Asked(line, headers, await self.reader.readexactly(length))
        self.asked.append(asked)
        return asked

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, body: bytes = b"ok", *more_headers: bytes, status: bytes = b"200 OK") -> None:
        """Takes a request and answers it in full."""
        await self.request()
        self.say(answer(body, *more_headers, status=status))
        await self.writer.drain()

    async def gone(self) -> None:
        """Until the gateway has closed its end."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionResetError:
            pass

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


def answer(body: bytes, *more_headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *more_headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Worker:
    """Listens on loopback; each new connection plays the next script, the last one again and again.

    A script that fails fails the test; one that ends closes its connection.
    """

    def __init__(self, *scripts: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.peers: list[Peer] = []
        self._scripts = scripts
        self._host = host
        self._tls = tls
        self._tasks: list[asyncio.Task[None]] = []
        self._arrivals: asyncio.Queue[Peer] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            if kind is not None:
                task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=kind is not None)
        for peer in self.peers:
            peer.close()
        assert kind is not None or all(result is None for result in results)

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    async def arrival(self) -> Peer:
        """The next connection that has been made."""
        return await self._arrivals.get()

    async def left(self, number: int = 0) -> None:
        """Until the script of that connection is over; those that wait for the gateway to leave end when it does."""
        await self._tasks[number]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        script = self._scripts[min(peer.number, len(self._scripts) - 1)]
        self._tasks.append(asyncio.ensure_future(self._play(script, peer)))
        self._arrivals.put_nowait(peer)

    async def _play(self, script: Script, peer: Peer) -> None:
        try:
            await script(peer)
        finally:
            peer.close()


async def post(pool: Pool, body: bytes = b"{}", deadlines: Timeout = PATIENT, headers: bytes = b"") -> Response:
    return await pool.request("/v1/chat/completions", JSON, body, headers, deadlines)


async def ask(pool: Pool, body: bytes = b"{}", deadlines: Timeout = PATIENT) -> bytes:
    """One whole exchange: the body of the answer."""
    response = await post(pool, body, deadlines)
    return await response.read(100 * 1024 * 1024)


async def until(reached: Callable[[], bool]) -> None:
    """For what no event tells: turns of the loop until it holds."""
    while not reached():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
