"""Requests sent ahead of their answers: read up to a bound, so that a client that leaves is noticed at once."""

from __future__ import annotations

import asyncio

import pytest

from gateway.downstream.exchange import Exchange
from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.downstream.front import PATH, Front, echo, request


class Running:
    """A handler that is under way until its client leaves or it is told to answer."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.entered.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.left.set()
            return
        await echo(exchange)


@pytest.mark.parametrize(
    "behind",
    [
        request(b"2"),
        request(b"2") * 10,
        request(b"2", path="/a"),
        request(b"2") + request(b"3", path="/a") + request(b"4"),
        request(bytes(30_000)),
        request(bytes(30_000), path="/a"),
        request(bytes(30_000))[:-10_000],
        request(b"2")[:20],
    ],
)
@dialogue
async def test_a_client_that_leaves_with_requests_waiting_is_noticed(behind: bytes) -> None:
    running = Running()
    async with Front(running) as front, await front.client() as client:
        client.say(request(b"1") + behind)
        await running.entered.wait()
        client.leave()
        await running.left.wait()
        await front.idle()
        assert len(front.seen) == 1


@pytest.mark.parametrize("path", [PATH, "/a"])
@pytest.mark.parametrize("size", [0, 1000, 100_000])
@dialogue
async def test_what_is_read_ahead_is_bounded(path: str, size: int) -> None:
    running = Running()
    each = request(bytes(size), path=path)
    count = (4_000_000 if size else 600_000) // len(each)
    async with Front(running) as front, await front.client(limit=2**24) as client:
        client.say(request(b"1"))
        await running.entered.wait()
        client.say(each * count)
        (connection,) = front.connections
        while not connection.flow.read_paused:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        one_read = 256 * 1024
        assert len(connection.pipeline) <= one_read // len(each) + 65
        held = sum(getattr(cycle, "body_size", 0) or len(getattr(cycle, "body", b"")) for cycle in connection.pipeline)
        assert held <= one_read + 64 * 1024
        running.go.set()
        assert (await client.reply()).json["size"] == 1
        for _ in range(count):
            assert (await client.reply()).json["size"] == size


@pytest.mark.parametrize("path", [PATH, "/a"])
@dialogue
async def test_a_waiting_body_that_turns_bad_takes_no_answer_away(path: str) -> None:
    running = Running()
    bad = f"POST {path} HTTP/1.1\r\nhost: front\r\ntransfer-encoding: chunked\r\n\r\n1\r\na".encode()
    async with Front(running) as front, await front.client() as client:
        client.say(request(b"1") + request(b"2", path="/b") + bad)
        await running.entered.wait()
        client.say(b"GARBAGE")
        running.go.set()
        assert [(await client.reply()).json["size"] for _ in range(2)] == [1, 1]
        assert (await client.reply()).code == "invalid_http"
        assert await client.closed() == b""


@dialogue
async def test_reading_goes_on_when_there_is_room_again() -> None:
    """Bounded by what waits now, not by what has been read in all."""
    async with Front() as front, await front.client(limit=2**24) as client:
        client.say(request(bytes(3000)) * 500)
        for _ in range(500):
            assert (await client.reply()).json["size"] == 3000
        (connection,) = front.connections
        assert not connection.flow.read_paused
