"""Answers to clients that read, that read slowly, and that leave."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.downstream.exchange import Exchange
from gateway.downstream.flow import Flow
from gateway.downstream.ids import new_request_id
from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.downstream.front import JSON, Front, request

STREAM = b"text/event-stream"
MEGABYTE = 1024 * 1024


class Watched:
    """A handler that streams on demand and writes down how it ended."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.entered = asyncio.Event()
        self.left = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.entered.set()
        try:
            await self.story(exchange)
            if not exchange.response_complete:
                await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.left.set()
            self.afterwards(exchange)

    async def story(self, exchange: Exchange) -> None:
        """What is answered before the wait."""

    def afterwards(self, exchange: Exchange) -> None:
        """What is still tried when the client has gone."""
        exchange.start(200, STREAM, [])
        exchange.write(b"x")
        exchange.finish()
        exchange.respond(500, JSON, [], b"{}")


class Streaming(Watched):
    async def story(self, exchange: Exchange) -> None:
        exchange.start(200, STREAM, [b"x-a: b"])
        exchange.write(b"data: 1\n\n")


# Answers


@dialogue
async def test_a_stream_comes_in_chunks_piece_by_piece() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(201, STREAM, [b"x-request-id: r"])
        for piece in (b"one", b"", b"two" * 1000):
            exchange.write(piece)
        assert not exchange.response_complete
        exchange.finish()
        assert exchange.response_complete
        exchange.write(b"late")
        exchange.finish()
        exchange.respond(200, JSON, [], b"late")
        exchange.start(200, JSON, [])

    async with Front(handler) as front, await front.client() as client:
        for _ in range(2):
            client.say(request(b"1"))
            status, headers = await client.head()
            assert (status, headers) == (
                201,
                {
                    "x-request-id": "r",
                    "content-type": "text/event-stream",
                    "cache-control": "no-cache",
                    "x-accel-buffering": "no",
                    "transfer-encoding": "chunked",
                },
            )
            assert [await client.chunk() for _ in range(3)] == [b"one", b"two" * 1000, b""]
        exchange = front.seen[0]
        assert (exchange.started, exchange.status, exchange.disconnected) == (True, 201, False)


@pytest.mark.parametrize(("status", "line"), [(429, b"Too Many Requests"), (299, b"")])
@dialogue
async def test_a_whole_answer(status: int, line: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.respond(status, JSON, [b"a: 1", b"b: 2"], b"{}")

    async with Front(handler) as front, await front.client() as client:
        front.intake.common_lines.append(b"server: tollgate")
        client.say(request(b"1", b"connection: close"))
        assert await client.closed() == (
            b"HTTP/1.1 %d %b\r\na: 1\r\nb: 2\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
            b"server: tollgate\r\nconnection: close\r\n\r\n{}" % (status, line)
        )


@dialogue
async def test_a_cut_answer_has_no_end() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, STREAM, [])
        exchange.write(b"part")
        exchange.cut()

    async with Front(handler) as front, await front.client() as client:
        client.say(request(b"1"))
        assert b"0\r\n\r\n" not in await client.closed()


# Leaving


@pytest.mark.parametrize("kind", [Watched, Streaming])
@pytest.mark.parametrize("how", ["reset", "close", "half"])
@dialogue
async def test_a_client_that_leaves_ends_its_handler_once(kind: type[Watched], how: str) -> None:
    watched = kind()
    before = time.monotonic()
    async with Front(watched) as front:
        client = await front.client()
        client.say(request(b"1"))
        await watched.entered.wait()
        if kind is Streaming:
            await client.head()
        if how == "half":
            client.writer.write_eof()
        elif how == "close":
            client.writer.close()
        else:
            client.leave()
        await watched.left.wait()
        await front.idle()
        exchange = watched.exchange
        assert exchange is not None
        assert exchange.disconnected
        assert before < exchange.left_at <= time.monotonic()
        assert (watched.cancelled, exchange.started) == (1, kind is Streaming)
        assert (exchange.on_leave, exchange.on_drain) == (None, None)
        client.leave()


@dialogue
async def test_whoever_waits_for_the_leaving_is_told_once_and_not_after_the_end() -> None:
    told: list[str] = []
    done = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        name = "whole" if not told and len(exchange.body) == 1 else "open"
        exchange.on_leave = lambda: told.append(name)
        if name == "whole":
            exchange.respond(200, JSON, [], b"{}")
        else:
            exchange.start(200, STREAM, [])
        done.set()

    async with Front(handler) as front:
        async with await front.client() as client:
            await client.ask(b"1")
        while front.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert told == []
        async with await front.client() as client:
            client.say(request(b"22"))
            await client.head()
        await front.idle()
        assert told == ["open"]
        front.seen[1].left()
        assert told == ["open"]


@dialogue
async def test_a_client_that_leaves_before_its_request_is_whole_starts_nothing() -> None:
    async with Front() as front:
        for sent in (b"", b"POST", request(b"12345")[:-2], request(b"12345", b"expect: 100-continue")[:-5]):
            client = await front.client()
            client.say(sent)
            await client.writer.drain()
            client.writer.close()
            await front.idle()
        assert front.seen == []


# Slow readers


class Flood(Watched):
    """Writes until the client is behind, then whatever `on_drain` says."""

    def __init__(self) -> None:
        super().__init__()
        self.drained = asyncio.Event()
        self.behind = asyncio.Event()
        self.written = 0

    async def story(self, exchange: Exchange) -> None:
        exchange.on_drain = self.drained.set
        exchange.start(200, STREAM, [])
        while not exchange.is_behind:
            exchange.write(bytes(65536))
            self.written += 65536
            await asyncio.sleep(0)
        self.behind.set()
        await self.drained.wait()
        assert not exchange.is_behind
        exchange.on_drain = None
        exchange.finish()


@dialogue
async def test_a_client_that_falls_behind_and_catches_up() -> None:
    flood = Flood()
    async with Front(flood) as front, await front.client(limit=1024) as client:
        client.say(request(b"1"))
        await flood.behind.wait()
        assert not flood.drained.is_set()
        await client.head()
        got = 0
        while piece := await client.chunk():
            got += len(piece)
        assert got == flood.written


@dialogue
async def test_nobody_has_to_care_whether_a_client_is_behind() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, STREAM, [])
        exchange.write(bytes(16 * MEGABYTE))
        while exchange.is_behind:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        exchange.finish()

    async with Front(handler) as front, await front.client(limit=1024) as client:
        assert len((await client.ask(b"1")).body) == 16 * MEGABYTE


# Small parts


def test_request_ids_differ_and_sort_by_time() -> None:
    early = new_request_id()
    ids = {new_request_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(each) == 32 and each.startswith("req_") for each in ids)
    late = early
    while late[:16] == early[:16]:
        late = new_request_id()
    assert early < late


@given(st.lists(st.binary(max_size=20)))
def test_the_body_is_what_came(parts: list[bytes]) -> None:
    async def story() -> None:
        exchange = Exchange(
            loop=asyncio.get_running_loop(),
            transport=(transport := asyncio.Transport()),
            flow=Flow(transport),
            path="/",
            headers=[(b"a", b"1"), (b"a", b"2")],
            http_version="1.1",
            keep_alive=True,
            expect_100_continue=False,
            common_lines=[],
            on_response=lambda: None,
            arrived=0.0,
        )
        exchange.body_parts.extend(parts)
        assert exchange.body == b"".join(parts)
        assert (exchange.header(b"a"), exchange.header(b"b")) == (b"1", None)

    asyncio.run(story())
