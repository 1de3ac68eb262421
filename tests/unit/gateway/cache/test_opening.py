"""From a URL to a store, without touching the network."""

from __future__ import annotations

import asyncio

import pytest

from gateway.cache import open_store
from gateway.cache.memory import MemoryStore
from gateway.cache.redis import RedisStore
from gateway.table import Cache


def test_memory_takes_its_bound_from_the_settings() -> None:
    store = open_store("memory://", Cache(max_memory_bytes=12_345))
    assert isinstance(store, MemoryStore)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "rediss+cluster"])
def test_redis_in_its_four_forms_opens_without_a_server(scheme: str) -> None:
    async def open_and_close() -> None:
        store = open_store(
            f"{scheme}://127.0.0.1:1/0" if "cluster" not in scheme else f"{scheme}://127.0.0.1:1", Cache()
        )
        assert isinstance(store, RedisStore)
        await store.close()

    asyncio.run(open_and_close())


def test_an_unknown_scheme_says_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"`mongo://` is no state store: write memory://, redis://"):
        open_store("mongo://x", Cache())
