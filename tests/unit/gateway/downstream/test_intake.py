"""What all clients together may take of a process: connections, and bytes of bodies on their way."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.downstream.exchange import Exchange
from gateway.downstream.limits import TOLD_SECONDS, Intake, Limits
from gateway.errors import GatewayError, Unauthenticated
from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.downstream.front import LIMIT, PATH, Client, Front, request


def in_chunks(body: bytes) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nhost: front\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


# Connections


@dialogue
async def test_a_client_too_many_is_told_so_and_the_others_are_served() -> None:
    async with Front(max_connections=2) as front, await front.client() as first, await front.client() as second:
        for _ in range(3):
            async with await front.client() as third:
                reply = await third.ask(b"1")
                assert (reply.status, reply.code) == (503, "overloaded")
                assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
                assert await third.closed() == b""
        assert [(await each.ask(b"1")).status for each in (first, second)] == [200, 200]
        assert front.intake.turned_away == 3
        assert len(front.seen) == 2
        second.leave()
        while front.intake.connections > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        async with await front.client() as again:
            assert (await again.ask(b"1")).status == 200


@dialogue
async def test_clients_turned_away_hold_no_place_for_long() -> None:
    async with Front(max_connections=1, max_lingering=3, linger_seconds=0.05) as front, await front.client() as first:
        rest = [await front.client() for _ in range(20)]
        assert front.intake.turned_away == 20
        while front.intake.connections > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert [(await each.reply()).status for each in rest] == [503] * 20
        assert (await first.ask(b"1")).status == 200
        for each in rest:
            each.leave()


def test_the_log_hears_of_a_flood_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    intake = Intake(Limits(max_connections=5), lambda: now)
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            intake.turn_away()
        now += TOLD_SECONDS
        intake.turn_away()
    assert intake.turned_away == 1001
    assert [record.__dict__["fields"] for record in caplog.records] == [
        {"limit": 5, "total": 1},
        {"limit": 5, "total": 1001},
    ]


# Bytes of bodies


async def receiving(front: Front, size: int) -> None:
    while front.intake.receiving_bytes != size:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("how", ["whole", "left", "garbage", "too large", "too slow"])
@dialogue
async def test_what_is_on_its_way_is_counted_until_it_is_not(how: str) -> None:
    async with Front(body_seconds=0.1 if how == "too slow" else 10.0) as front, await front.client() as client:
        sent = in_chunks(bytes(100_000))
        client.say(sent[:-50_000])
        at = sent.index(b"\x00")
        await receiving(front, len(sent) - 50_000 - at)
        if how == "whole":
            client.say(sent[-50_000:])
        elif how == "left":
            client.leave()
        elif how == "garbage":
            client.say(bytes(50_000 - 7) + b"XX")
        elif how == "too large":
            client.say(sent[-50_000:-5], b"%x\r\n" % LIMIT, bytes(LIMIT))
        await receiving(front, 0)


@dialogue
async def test_a_body_that_finds_no_room_is_refused_and_may_be_sent_again() -> None:
    async with (
        Front(max_receiving_bytes=300_000) as front,
        await front.client() as large,
        await front.client() as other,
    ):
        sent = request(bytes(250_000))
        large.say(sent[:-1])
        await receiving(front, 250_000 - 1)
        other.say(sent[:-1])
        reply = await other.reply()
        assert (reply.status, reply.code, reply.headers["x-should-retry"]) == (503, "overloaded", "true")
        other.say(sent[-1:])
        large.say(sent[-1:])
        assert (await large.reply()).json["size"] == 250_000
        await receiving(front, 0)
        assert (await other.ask(bytes(250_000))).json["size"] == 250_000


@dialogue
async def test_what_comes_whole_needs_no_room() -> None:
    async with Front(max_receiving_bytes=0) as front, await front.client() as client:
        assert (await client.ask(b"x" * 1000)).json["size"] == 1000


@dialogue
async def test_a_large_body_is_not_kept_once_it_is_answered() -> None:
    async with Front() as front, await front.client() as client:
        assert (await client.ask(bytes(LIMIT))).json["size"] == LIMIT
        assert front.seen[0].body == b""  # and the connection is open


# Screening


class Screen:
    """Refuses what has no key, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> GatewayError | None:
        self.asked.append(exchange)
        return None if exchange.header(b"x-api-key") else Unauthenticated("No key.")


async def refused(client: Client) -> None:
    reply = await client.reply()
    assert (reply.status, reply.code) == (401, "invalid_api_key")


@pytest.mark.parametrize("sent", [request(bytes(LIMIT)), in_chunks(bytes(70_000)), in_chunks(bytes(10))])
@dialogue
async def test_a_large_body_without_a_key_is_refused_by_its_head(sent: bytes) -> None:
    screen = Screen()
    async with Front(screen=screen) as front, await front.client() as client:
        at = sent.index(b"\r\n\r\n") + 4
        client.say(sent[:at])
        await refused(client)
        assert front.intake.receiving_bytes == 0
        client.say(sent[at:])  # is read and dropped: the connection goes on
        client.say(request(b"1", b"x-api-key: k"))
        assert (await client.reply()).json["size"] == 1
        assert len(screen.asked) == 1
        assert front.refused == screen.asked
        assert screen.asked[0].body == b""


@dialogue
async def test_a_body_with_a_key_is_looked_at_once() -> None:
    screen = Screen()
    async with Front(screen=screen) as front, await front.client() as client:
        sent = request(bytes(LIMIT), b"x-api-key: k")
        for start in range(0, len(sent), 100_000):
            client.say(sent[start : start + 100_000])
            await asyncio.sleep(0.001)
        assert (await client.reply()).json["size"] == LIMIT
        assert len(screen.asked) == 1
        assert len(front.seen) == 1


@dialogue
async def test_small_and_whole_bodies_are_not_screened() -> None:
    screen = Screen()
    async with Front(screen=screen) as front, await front.client() as client:
        assert (await client.ask(b"1")).status == 200
        sent = request(bytes(60_000))
        client.say(sent[:1000])
        await asyncio.sleep(0.01)
        client.say(sent[1000:])
        assert (await client.reply()).json["size"] == 60_000
        assert screen.asked == []
        assert len(front.seen) == 2


@dialogue
async def test_a_client_that_asks_first_hears_at_once_that_it_need_not_send() -> None:
    for expectation in (b"100-continue", b"100-Continue"):
        async with Front(screen=Screen()) as front, await front.client() as client:
            client.say(request(b"x", b"expect: " + expectation)[:-1])
            reply = await client.reply()
            assert (reply.status, reply.headers["connection"]) == (401, "close")
            client.say(b"x")
            assert await client.closed() == b""
            assert front.seen == []
            client = await front.client()
            client.say(request(b"x", b"expect: " + expectation, b"x-api-key: k")[:-1])
            assert (await client.head())[0] == 100
            client.say(b"x")
            assert (await client.reply()).json["size"] == 1
            client.leave()


@dialogue
async def test_a_pipelined_body_is_screened_and_refused_in_its_turn() -> None:
    go = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await go.wait()
        exchange.respond(200, b"application/json", [], b'{"size":0}')

    async with Front(handler, screen=Screen()) as front, await front.client() as client:
        client.say(request(b"1"), request(bytes(LIMIT)), request(b"3"))
        while not front.seen:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        go.set()
        assert (await client.reply()).status == 200
        await refused(client)
        assert (await client.reply()).status == 200
