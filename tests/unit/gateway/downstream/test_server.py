"""Accepting clients and letting go of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from gateway.downstream.connection import ClientConnection
from gateway.downstream.exchange import Exchange
from gateway.downstream.limits import Intake, Limits
from gateway.downstream.server import Server
from gateway.listening import listen_for_many
from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.downstream.front import PATH, Client, admit, application, echo, request

QUIET = 0.2
LONG = 30.0
SLOW = b"x-slow: yes"


class Slow:
    """Answers at once, except who asks to wait: a stream that ends when `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.header(b"x-slow") is None:
            await echo(exchange)
            return
        exchange.start(200, b"text/event-stream", [])
        exchange.write(b"data: 1\n\n")
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            exchange.write(b"data: cut\n\n")
        exchange.finish()


@contextlib.asynccontextmanager
async def serving(
    handler: Callable[[Exchange], Coroutine[Any, Any, None]] = echo, slots: int = 1, quiet: float = QUIET
) -> AsyncIterator[tuple[Server, int]]:
    """A server and its port; what it does not close itself is closed in the end."""
    listeners = listen_for_many("127.0.0.1", 0, slots)
    port: int = listeners[0].getsockname()[1]
    config = uvicorn.Config(application, ws="none", lifespan="off", log_config=None, timeout_keep_alive=60)  # type: ignore[arg-type]
    config.load()
    intake = Intake(Limits(quiet_seconds=quiet))

    def connect(state: ServerState) -> ClientConnection:
        return ClientConnection(
            config, state, {}, None, handler=handler, screen=admit, paths=frozenset({PATH}), intake=intake
        )

    server = Server(connect, listeners, intake)
    await server.start()
    try:
        yield server, port
    finally:
        if not server.draining:
            await server.drain(0.0, asyncio.Event())


async def client(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def is_refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


@dialogue
async def test_answers_have_a_date() -> None:
    async with serving() as (_, port), await client(port) as one:
        assert (await one.ask()).headers["date"].endswith("GMT")


@dialogue
async def test_a_drain_finishes_what_is_under_way_and_lets_nobody_in() -> None:
    handler = Slow()
    async with serving(handler) as (server, port), await client(port) as one:
        one.say(request(b"", SLOW))
        await handler.begun.wait()
        draining = asyncio.create_task(server.drain(LONG, asyncio.Event()))
        while not await is_refused(port):
            pass
        handler.go.set()
        assert (await one.reply()).body == b"data: 1\n\n"
        assert (await one.ask()).headers["connection"] == "close"  # its first answer had not said so
        assert await one.closed() == b""
        assert await draining == 0


@dialogue
async def test_a_drain_answers_on_kept_connections_of_either_plane_and_closes_the_quiet() -> None:
    async with (
        serving(quiet=1.0) as (server, port),
        await client(port) as one,
        await client(port) as other,
        await client(port) as quiet,
        await client(port) as fresh,
    ):
        for each in (one, other, quiet):
            assert "connection" not in (await each.ask()).headers
        draining = asyncio.create_task(server.drain(LONG, asyncio.Event()))
        while not server.draining:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (await one.ask()).headers["connection"] == "close"
        assert (await other.ask(path="/other")).headers["connection"] == "close"
        for each in (one, other, quiet, fresh):
            assert await each.closed() == b""
        assert await draining == 0


@dialogue
async def test_who_has_been_quiet_for_long_is_let_go_at_once() -> None:
    began = time.monotonic()
    async with serving(quiet=LONG) as (server, port), await client(port) as one:
        await one.ask()
        (connection,) = server.state.connections
        connection._idle_until -= LONG  # type: ignore[attr-defined]  # so long ago was its last answer
        assert await server.drain(LONG, asyncio.Event()) == 0
        assert await one.closed() == b""
    assert time.monotonic() - began < LONG


@dialogue
async def test_what_outlasts_the_drain_is_cut_off_and_can_say_so() -> None:
    async with serving(Slow()) as (server, port), await client(port) as one:
        one.say(request(b"", SLOW))
        await one.head()
        assert await one.chunk() == b"data: 1\n\n"
        assert await server.drain(0.05, asyncio.Event()) == 1
        assert await one.chunk() == b"data: cut\n\n"
        assert await one.chunk() == b""
        assert await one.closed() == b""


@dialogue
async def test_somebody_in_a_hurry_ends_the_drain() -> None:
    hurry = asyncio.Event()
    async with serving(Slow()) as (server, port), await client(port) as one:
        one.say(request(b"", SLOW))
        await one.head()
        draining = asyncio.create_task(server.drain(LONG, hurry))
        while not await is_refused(port):
            pass
        hurry.set()
        assert await draining == 1


@dialogue
async def test_a_client_that_never_reads_does_not_keep_it() -> None:
    async def flood(exchange: Exchange) -> None:
        exchange.start(200, b"text/event-stream", [])
        exchange.write(b"x" * 32 * 1024 * 1024)
        exchange.finish()

    async with serving(flood) as (server, port), await client(port) as one:
        one.say(request())
        while not server.state.total_requests:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await server.drain(0.05, asyncio.Event())
        assert all(each.transport.is_closing() for each in server.state.connections)


@dialogue
async def test_a_drain_accepts_who_waits_in_any_queue() -> None:
    async with serving(slots=3) as (server, port):
        waiting: list[socket.socket] = []
        for _ in range(30):  # the kernel spreads them; the loop has no turn in which to accept
            waiting.append(socket.create_connection(("127.0.0.1", port), 10))
            waiting[-1].sendall(request(b"1"))
        draining = asyncio.create_task(server.drain(LONG, asyncio.Event()))
        for each in waiting:
            one = Client(*await asyncio.open_connection(sock=each))
            reply = await one.reply()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            one.leave()
        assert await draining == 0


@dialogue
async def test_standing_in_for_another() -> None:
    async with serving(slots=2) as (server, port):

        async def answers(count: int) -> int:
            """How many of so many new clients are served, once no more of them are."""
            clients = [await client(port) for _ in range(count)]
            for each in clients:
                each.say(request(b"1"))
            tasks = [asyncio.create_task(each.reply()) for each in clients]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            while pending and (more := (await asyncio.wait(pending, timeout=0.5))[0]):
                done, pending = done | more, pending - more
            if pending:
                await server.accept(1)
                await asyncio.gather(*tasks)
            for each in clients:
                each.leave()
            return len(done)

        assert 0 < await answers(32) < 32
        assert await answers(32) == 32
        await server.accept(1)  # twice is as good as once
        server.release(1)
        server.release(1)
        assert 0 < await answers(32) < 32
