"""Messages between gateways through a real Redis, or between the processes of one machine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.state.deltas import Deltas, LocalDeltas, RedisDeltas
from gateway.state.redis import FAILURES
from tests.redis.conftest import RedisServer

pytestmark = pytest.mark.redis

Story = Callable[[Deltas, Deltas], Awaitable[None]]


async def told(one: Deltas, other: Deltas) -> None:
    assert await one.trade(None) == await other.trade(None) == []
    await one.trade(b"a")
    await one.trade(b"b")
    assert await other.trade(b"c") == [b"a", b"b"]
    assert [message for message in await one.trade(None) if message not in (b"a", b"b")] == [b"c"]
    assert [message for message in await other.trade(None) if message != b"c"] == []


async def both(make: Callable[[], Deltas], story: Story) -> None:
    one, other = make(), make()
    try:
        await story(one, other)
    finally:
        await one.close()
        await other.close()


def test_through_redis(redis_server: RedisServer) -> None:
    asyncio.run(both(lambda: RedisDeltas(redis_server.url), told))


def test_through_a_cluster(redis_cluster: list[RedisServer]) -> None:
    url = f"redis+cluster://{redis_cluster[0].address}"
    asyncio.run(both(lambda: RedisDeltas(url), told))


def test_between_processes_of_one_machine(tmp_path: Path) -> None:
    asyncio.run(both(lambda: LocalDeltas(tmp_path), told))
    assert list(tmp_path.iterdir()) == []


def test_what_was_said_before_one_came_is_old(redis_server: RedisServer) -> None:
    async def story() -> None:
        one, other = RedisDeltas(redis_server.url), RedisDeltas(redis_server.url)
        await one.trade(b"old")
        assert await other.trade(None) == []
        await one.close()
        await other.close()

    asyncio.run(story())


def test_redis_that_is_away_is_a_failure_and_heard_again_later(redis_server: RedisServer) -> None:
    async def story(one: Deltas, other: Deltas) -> None:
        await one.trade(b"a")
        await other.trade(None)
        redis_server.kill()
        for deltas in (one, other):
            with pytest.raises(FAILURES):
                await deltas.trade(b"lost")
        await asyncio.to_thread(redis_server.start)  # and has forgotten everything
        await one.trade(b"b")
        found: list[bytes] = []
        async with asyncio.timeout(5.0):
            while b"c" not in found:
                await one.trade(b"c")
                found += await other.trade(None)

    asyncio.run(both(lambda: RedisDeltas(redis_server.url), story))


def test_redis_that_is_slow_holds_nobody_up_for_long(redis_server: RedisServer) -> None:
    async def story(one: Deltas, other: Deltas) -> None:
        await one.trade(b"a")
        redis_server.pause()
        try:
            async with asyncio.timeout(3.0):
                with pytest.raises(FAILURES):
                    await one.trade(b"b")
        finally:
            redis_server.resume()
        async with asyncio.timeout(5.0):
            await one.trade(b"c")

    asyncio.run(both(lambda: RedisDeltas(redis_server.url), story))


def test_a_process_that_was_killed_leaves_a_socket_that_harms_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        dead, one, other = LocalDeltas(tmp_path), LocalDeltas(tmp_path), LocalDeltas(tmp_path)
        dead._socket.close()  # pyright: ignore[reportPrivateUsage] - as its end would, without the unlinking
        await one.trade(b"a")
        assert await other.trade(None) == [b"a"]
        await one.close()
        await other.close()

    asyncio.run(story())
    assert list(tmp_path.iterdir()) == [], "it is cleared away by who meets it"


def test_who_does_not_listen_holds_nobody_up(tmp_path: Path) -> None:
    async def story() -> None:
        one, deaf = LocalDeltas(tmp_path), LocalDeltas(tmp_path)
        async with asyncio.timeout(5.0):
            for _ in range(2_000):
                await one.trade(b"x" * 1_000)
        assert 0 < len(await deaf.trade(None)) < 2_000
        await one.close()
        await deaf.close()

    asyncio.run(story())
