"""How long a client may take to send a request: a head is bounded in time, a body by its pace."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.downstream.front import PATH, Front, request


@dialogue
async def test_a_client_that_says_nothing_is_not_kept() -> None:
    async with Front(head_seconds=0.05) as front, await front.client() as client:
        assert await client.closed() == b""
        await front.idle()
        assert front.refused == []


@pytest.mark.parametrize("first", [b"", request(b"1")])
@dialogue
async def test_empty_lines_are_no_request_and_keep_nobody(first: bytes) -> None:
    async with Front(head_seconds=0.2) as front, await front.client() as client:
        for connection in front.connections:
            connection.timeout_keep_alive = 0.1
        client.say(first)
        if first:
            assert (await client.reply()).status == 200
        closed = asyncio.ensure_future(client.closed())
        while not closed.done():
            client.say(b"\r\n")
            await asyncio.sleep(0.005)
        assert await closed == b""


@dialogue
async def test_a_head_that_comes_byte_by_byte_is_given_up_whatever_its_pace() -> None:
    async with Front(head_seconds=0.1) as front, await front.client() as client:
        said = asyncio.ensure_future(client.reply())
        for at in range(10_000):
            client.say(b"P" if at == 0 else b"")
            client.say(b"OST / HTTP/1.1\r\nx: "[at - 1 : at] if 0 < at < 20 else b"a" if at else b"")
            await asyncio.sleep(0.002)
            if said.done():
                break
        reply = await said
        assert (reply.status, reply.code, reply.headers["x-should-retry"]) == (408, "request_timeout", "true")
        assert await client.closed() == b""


@pytest.mark.parametrize("path", [PATH, "/upload"])
@dialogue
async def test_a_body_may_take_many_times_as_long_as_a_pause_while_it_keeps_its_pace(path: str) -> None:
    async with Front(body_seconds=0.5, min_body_bytes=10) as front, await front.client() as client:
        sent = request(bytes(1500), path=path)
        client.say(sent[:-1500])
        for _ in range(75):
            client.say(bytes(20))
            await asyncio.sleep(0.02)
        assert (await client.reply()).json["size"] == 1500


@dialogue
async def test_a_body_that_comes_too_slowly_is_given_up() -> None:
    async with (
        Front(body_seconds=0.1, min_body_bytes=1000, linger_seconds=0.05) as front,
        await front.client() as client,
    ):
        client.say(request(bytes(500_000))[:-400_000])  # however much of it came at first
        said = asyncio.ensure_future(client.reply())
        while not said.done():
            client.say(b"a")
            await asyncio.sleep(0.002)
        assert (await said).code == "request_timeout"
        assert await client.closed() == b""
        await front.idle()
        assert front.seen == []
        assert front.intake.receiving_bytes == 0


@dialogue
async def test_each_request_has_the_whole_time() -> None:
    async with Front(head_seconds=0.8, body_seconds=0.8) as front, await front.client() as client:
        for _ in range(4):
            sent = request(b"12345")
            for part in (sent[:10], sent[10:-3], sent[-3:]):
                client.say(part)
                await asyncio.sleep(0.1)
            assert (await client.reply()).json["size"] == 5
        assert len(front.seen) == 4


@dialogue
async def test_the_next_request_is_not_cut_off_by_the_answer_before_it() -> None:
    """The time a connection may be idle begins when an answer ends, unless a request has begun by then."""
    go = asyncio.Event()

    async def handler(exchange: object) -> None:
        await go.wait()
        exchange.respond(200, b"application/json", [], b'{"size":0}')  # type: ignore[attr-defined]

    async with Front(handler) as front, await front.client() as client:
        (connection,) = front.connections
        connection.timeout_keep_alive = 0.02
        sent = request(b"22")
        client.say(request(b"1"), sent[:-1])
        while not connection.pipeline:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        go.set()
        assert (await client.reply()).status == 200
        await asyncio.sleep(0.1)
        client.say(sent[-1:])
        assert (await client.reply()).status == 200


@dialogue
async def test_the_rest_of_a_refused_body_has_its_time_too() -> None:
    async with Front(max_body_bytes=10, body_seconds=0.1, min_body_bytes=1) as front, await front.client() as client:
        client.say(request(bytes(1000))[:-900])
        assert (await client.reply()).status == 413
        ended = asyncio.ensure_future(client.closed())
        for _ in range(1000):
            client.say(b"a")
            await asyncio.sleep(0.002)
            if ended.done():
                break
        assert await ended == b""
        await front.idle()


@dialogue
async def test_an_answer_that_ends_a_connection_reaches_a_client_that_goes_on_sending() -> None:
    """Closing with unread bytes resets the connection, and what was answered is lost on the way (RFC 9112, 9.6)."""
    async with Front() as front, await front.client() as client:
        client.say(b"GARBAGE\r\n\r\n")
        for _ in range(100):
            client.say(bytes(10_000))
            await asyncio.sleep(0)
        assert (await client.reply()).code == "invalid_http"
        assert await client.closed() == b""


@dialogue
async def test_a_client_that_does_not_close_after_the_end_is_closed() -> None:
    async with Front(linger_seconds=0.05) as front, await front.client() as client:
        client.say(b"GARBAGE\r\n\r\n")
        assert (await client.reply()).status == 400
        assert await client.closed() == b""
        await front.idle()  # and our end is not left open
