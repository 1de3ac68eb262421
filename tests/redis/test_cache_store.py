"""The shared response cache on a real Redis: there, full, paused, killed, back, and in a cluster."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gateway.cache.codec import encode
from gateway.cache.entry import Entry
from gateway.cache.redis import (
    GETS_PER_COMMAND,
    LATENESS_SECONDS,
    MAX_WAITING_PUT_BYTES,
    PATIENCE_SECONDS,
    PREFIX,
    RedisStore,
)

if TYPE_CHECKING:
    from tests.redis.conftest import RedisServer

pytestmark = pytest.mark.redis

WAIT_SECONDS = 20.0


def entry(body: bytes = b'{"id":"x"}') -> Entry:
    return Entry(body, b"application/json", "chat-8b@fp8", "chat-8b", 7, 3, 2)


def key(number: int) -> bytes:
    return number.to_bytes(32)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


@asynccontextmanager
async def opened(url: str, patience: float = WAIT_SECONDS) -> AsyncIterator[RedisStore]:
    """Patient, so that a slow machine is not taken for a slow Redis where that is not the subject."""
    store = RedisStore.open(url, patience)
    try:
        yield store
    finally:
        await store.close()


async def until(true: Callable[[], bool]) -> None:
    """Until the store's background work has brought something about."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not true():  # noqa: ASYNC110 - the store has no use for an event
            await asyncio.sleep(0.005)


async def kept(store: RedisStore, wanted: bytes) -> Entry:
    """The entry once its background write has arrived."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (found := await store.get(wanted)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return found


async def put(redis_server: RedisServer, wanted: bytes) -> None:
    """By a store that waits: one in a hurry may take a slow machine for a slow Redis, and drop the write."""
    async with opened(redis_server.url) as store:
        store.put(wanted, entry(), 60.0)
        await kept(store, wanted)


def test_an_entry_put_by_one_is_found_by_another(redis_server: RedisServer) -> None:
    async def story() -> None:
        async with opened(redis_server.url) as one, opened(redis_server.url) as other:
            assert await other.get(key(1)) is None
            one.put(key(1), entry(), 60.0)
            assert await kept(other, key(1)) == entry()

    run(story())


def test_entries_end_with_their_time_to_live(redis_server: RedisServer) -> None:
    async def story() -> None:
        async with opened(redis_server.url) as store:
            store.put(key(1), entry(), 90.5)
            store.put(key(2), entry(), 0.0)
            await kept(store, key(1))
        with redis_server.client() as client:
            assert 0 < client.pttl(PREFIX + key(1)) <= 90_500
            assert client.keys("*") == [PREFIX + key(1)]

    run(story())


@pytest.mark.parametrize("junk", [b"", b"junk", (encode(entry()) or b"")[:-1]], ids=["empty", "junk", "torn"])
def test_a_corrupted_entry_is_a_miss(redis_server: RedisServer, junk: bytes) -> None:
    async def story() -> None:
        with redis_server.client() as client:
            client.set(PREFIX + key(1), junk)
            client.lpush(PREFIX + key(2), "not even a string")
        async with opened(redis_server.url) as store:
            assert await store.get(key(1)) is None
            assert await store.get(key(2)) is None
            assert not store.is_away

    run(story())


def test_many_lookups_of_one_turn_go_as_few_commands(redis_server: RedisServer) -> None:
    async def story() -> None:
        async with opened(redis_server.url) as store:
            for number in range(100):
                store.put(key(number), entry(b"%d" % number), 60.0)
            await kept(store, key(99))
            with redis_server.client() as client:
                client.config_resetstat()
                found = await asyncio.gather(*(store.get(key(number)) for number in range(100)))
                calls = client.info("commandstats")["cmdstat_mget"]["calls"]
            assert [hit and hit.body for hit in found] == [b"%d" % number for number in range(100)]
            assert calls == -(-100 // GETS_PER_COMMAND)

    run(story())


def test_close_writes_what_waits(redis_server: RedisServer) -> None:
    async def story() -> None:
        async with opened(redis_server.url) as store:
            for number in range(50):
                store.put(key(number), entry(), 60.0)
        with redis_server.client() as client:
            assert client.dbsize() == 50

    run(story())


def test_after_close_everything_is_a_miss(redis_server: RedisServer) -> None:
    async def story() -> None:
        async with opened(redis_server.url) as store:
            store.put(key(1), entry(), 60.0)
            await kept(store, key(1))
        assert await store.get(key(1)) is None
        store.put(key(2), entry(), 60.0)

    run(story())


def test_a_killed_redis_is_a_miss_and_comes_back(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tollgate.cache")

    async def story() -> None:
        async with opened(redis_server.url) as store:
            store.put(key(1), entry(), 60.0)
            await kept(store, key(1))
            redis_server.kill()
            assert await asyncio.gather(*(store.get(key(1)) for _ in range(200))) == [None] * 200
            assert store.is_away
            dropped = store.dropped_puts
            store.put(key(2), entry(), 60.0)
            assert store.dropped_puts == dropped + 1
            await asyncio.to_thread(redis_server.start)
            await until(lambda: not store.is_away)
            store.put(key(3), entry(), 60.0)
            assert await kept(store, key(3)) == entry()

    run(story())
    assert [record.getMessage() for record in caplog.records] == [
        "response cache away: serving without it",
        "response cache back",
    ]


def test_a_paused_redis_holds_nobody_up_and_comes_back(redis_server: RedisServer) -> None:
    async def story() -> None:
        await put(redis_server, key(1))
        async with opened(redis_server.url, PATIENCE_SECONDS) as store:
            await kept(store, key(1))
            redis_server.pause()
            assert await asyncio.gather(*(store.get(key(1)) for _ in range(500))) == [None] * 500
            assert store.is_away
            # Away means no IO at all: a thousand lookups finish without the event loop turning once.
            turned = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turned.set_result, None)
            for number in range(1_000):
                assert await store.get(key(number)) is None
            assert not turned.done()
            redis_server.resume()
            await until(lambda: not store.is_away)
            assert await kept(store, key(1)) == entry()

    run(story())


def test_a_redis_that_was_never_there_is_a_miss(redis_server: RedisServer) -> None:
    redis_server.kill()

    async def story() -> None:
        async with opened(redis_server.url) as store:
            store.put(key(1), entry(), 60.0)
            assert await store.get(key(1)) is None
            await until(lambda: store.is_away)

    run(story())


def test_writes_that_pile_up_are_dropped_and_not_kept_in_memory(redis_server: RedisServer) -> None:
    async def story() -> None:
        async with opened(redis_server.url) as store:
            redis_server.pause()
            large = entry(b"x" * (1024 * 1024))
            for number in range(40):
                store.put(key(number), large, 60.0)
            assert store._unwritten_bytes <= MAX_WAITING_PUT_BYTES
            assert store.dropped_puts >= 40 - MAX_WAITING_PUT_BYTES // (1024 * 1024)
            await until(lambda: store.is_away)
            assert store._unwritten_bytes == 0
            redis_server.resume()

    run(story())


def test_a_full_redis_still_answers_lookups(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with opened(redis_server.url) as store:
            store.put(key(1), entry(), 60.0)
            await kept(store, key(1))
            with redis_server.client() as client:
                client.config_set("maxmemory-policy", "noeviction")
                client.config_set("maxmemory", "1")
            store.put(key(2), entry(), 60.0)
            store.put(key(3), entry(), 60.0)
            await until(lambda: store.dropped_puts == 2)
            assert not store.is_away
            assert await store.get(key(1)) == entry()

    run(story())
    assert [record.getMessage() for record in caplog.records] == ["response cache takes no writes"]


def test_a_client_that_leaves_during_a_lookup_disturbs_no_other(redis_server: RedisServer) -> None:
    async def story() -> None:
        async with opened(redis_server.url) as store:
            store.put(key(1), entry(), 60.0)
            await kept(store, key(1))
            for _ in range(20):
                leaving = [asyncio.create_task(store.get(key(1))) for _ in range(10)]
                staying = [asyncio.create_task(store.get(key(1))) for _ in range(10)]
                await asyncio.sleep(0)
                for task in leaving:
                    task.cancel()
                assert await asyncio.gather(*staying) == [entry()] * 10
                assert all(
                    isinstance(e, asyncio.CancelledError)
                    for e in await asyncio.gather(*leaving, return_exceptions=True)
                )
            assert not store.is_away

    run(story())


def test_a_stall_of_the_gateway_itself_is_not_held_against_redis(redis_server: RedisServer) -> None:
    async def story() -> None:
        await put(redis_server, key(1))
        async with opened(redis_server.url, PATIENCE_SECONDS) as store:
            await kept(store, key(1))
            redis_server.pause()  # no answer can be in before the stall
            lookup = asyncio.create_task(store.get(key(1)))
            for _ in range(20):  # turns of the loop, enough for the command to leave
                await asyncio.sleep(0)
            time.sleep(PATIENCE_SECONDS + 3 * LATENESS_SECONDS)  # noqa: ASYNC251 - the stall
            redis_server.resume()
            assert await lookup is None
            assert not store.is_away
            assert await kept(store, key(1)) == entry()

    run(story())


def test_a_cluster(redis_cluster: list[RedisServer]) -> None:
    async def story() -> None:
        async with opened(f"redis+cluster://{redis_cluster[0].address}") as store:
            for number in range(64):
                store.put(key(number), entry(b"%d" % number), 60.0)
            await until(lambda: store._writer is None)
            found = await asyncio.gather(*(store.get(key(number)) for number in range(64)))
            assert [hit and hit.body for hit in found] == [b"%d" % number for number in range(64)]
        sizes = []
        for node in redis_cluster:
            with node.client() as client:
                sizes.append(client.dbsize())
        assert sum(sizes) == 64
        assert all(sizes), "both nodes hold a part"

    run(story())


def test_a_cluster_that_dies_is_a_miss_and_comes_back(redis_cluster: list[RedisServer]) -> None:
    async def story() -> None:
        async with opened(f"redis+cluster://{redis_cluster[0].address}") as store:
            store.put(key(1), entry(), 60.0)
            await kept(store, key(1))
            for node in redis_cluster:
                node.kill()
            assert await asyncio.gather(*(store.get(key(number)) for number in range(64))) == [None] * 64
            assert store.is_away
            for node in redis_cluster:
                await asyncio.to_thread(node.start)
            await until(lambda: not store.is_away)
            assert await store.get(key(1)) is None, "it kept nothing"
            assert not store.is_away

    run(story())
