"""Clients that do not take their answers: what is held for one is bounded, and so is how long."""

from __future__ import annotations

import asyncio
import socket
from typing import Self

import pytest

from gateway.downstream.exchange import Exchange
from gateway.downstream.stall import untaken_bytes
from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.downstream.front import JSON, Front, request

MEGABYTE = 1024 * 1024
STREAM = b"text/event-stream"


class Tap:
    """A handler that writes a piece whenever the client is not behind, until it is left or has written `total`."""

    def __init__(self, total: float = float("inf")) -> None:
        self.total = total
        self.written = 0
        self.left = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        exchange.start(200, STREAM, [])
        try:
            while self.written < self.total:
                if not exchange.is_behind:
                    exchange.write(bytes(10_000))
                    self.written += 10_000
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.left.set()
            return
        exchange.finish()


@dialogue
async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    tap = Tap()
    async with Front(tap, stall_seconds=0.2) as front, await front.client(limit=1024) as client:
        client.say(request(b"1"))
        await tap.left.wait()
        await front.idle()
        assert front.seen[0].disconnected


@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
@dialogue
async def test_a_whole_answer_that_is_not_taken_is_cut_off_too(connection: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.respond(200, JSON, [], bytes(32 * MEGABYTE))

    async with Front(handler, stall_seconds=0.2) as front, await front.client(limit=1024) as client:
        client.say(request(b"1", b"connection: " + connection))
        await front.idle()
        assert len(await client.closed()) < 32 * MEGABYTE


@pytest.mark.parametrize("closes", [True, False])
@dialogue
async def test_the_last_bytes_of_an_answer_can_not_keep_a_connection_for_ever(closes: bool) -> None:
    """What is left is too little for the transport to call the client slow."""
    held = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, STREAM, [])
        transport = exchange._transport
        while transport.get_write_buffer_size() < 20_000:
            exchange.write(bytes(10_000))
            await asyncio.sleep(0.001)
        assert not exchange.is_behind
        exchange.finish()
        held.set()

    async with Front(handler, stall_seconds=0.2) as front, await front.client(limit=1024) as client:
        (connection,) = front.connections
        connection.timeout_keep_alive = 0.1
        client.say(request(b"1", *(b"connection: close",) * closes))
        await held.wait()
        await front.idle()


class Taker:
    """A client that takes what it is told to, and holds little itself."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(request(b"1"))
        self.socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    async def take(self, size: int) -> int:
        """At most that much; 0 at the end."""
        try:
            return len(await asyncio.get_running_loop().sock_recv(self.socket, size))
        except ConnectionResetError:
            return 0


@dialogue
async def test_a_client_that_takes_slowly_keeps_its_connection() -> None:
    """It takes a small part of what the kernel holds for it, so that for many looks the transport's own buffer does not
    move."""
    tap = Tap()
    async with Front(tap, stall_seconds=1.0, min_taken_bytes=1) as front:
        with Taker(front.port) as client:
            for _ in range(40):
                assert await client.take(40_000)
                await asyncio.sleep(0.05)
            assert not tap.left.is_set()
            assert len(front.connections) == 1


@dialogue
async def test_a_client_that_takes_less_than_the_least_is_cut_off() -> None:
    tap = Tap()
    async with Front(tap, stall_seconds=0.4, min_taken_bytes=16 * MEGABYTE) as front:
        with Taker(front.port) as client:
            while await client.take(1000) and not tap.left.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await tap.left.wait()


@dialogue
async def test_a_client_that_has_caught_up_may_wait_for_the_rest() -> None:
    go = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, STREAM, [])
        exchange.write(bytes(8 * MEGABYTE))
        assert exchange.is_behind
        await go.wait()
        exchange.write(b"end")
        exchange.finish()

    for behind in (b"", b"GARBAGE\r\n\r\n"):
        async with Front(handler, stall_seconds=0.4) as front, await front.client() as client:
            client.say(request(b"1") + behind)
            await client.head()
            assert len(await client.chunk()) == 8 * MEGABYTE
            await asyncio.sleep(0.6)
            go.set()
            assert await client.chunk() == b"end"
            go.clear()


@dialogue
async def test_what_is_untaken_includes_what_the_kernel_holds() -> None:
    seen: list[int] = []

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, STREAM, [])
        exchange.write(bytes(32 * MEGABYTE))
        await asyncio.sleep(0.05)
        transport = exchange._transport
        seen.extend((transport.get_write_buffer_size(), untaken_bytes(transport)))
        exchange.cut()

    async with Front(handler) as front:
        with Taker(front.port):
            while not seen:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await front.idle()
        assert 0 < seen[0] < seen[1] <= 33 * MEGABYTE
