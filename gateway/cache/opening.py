"""From the `state` URL of the configuration to a store."""

from __future__ import annotations

from gateway.cache.entry import Store
from gateway.cache.memory import MemoryStore
from gateway.table import Cache

REDIS_SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster")


def open_store(url: str, settings: Cache) -> Store:
    """`memory://`, or Redis as `redis://`, `rediss://`, `redis+cluster://`, `rediss+cluster://`.

    Connects to nothing yet: a store that is away at the start is a miss like any other.
    """
    scheme = url.partition("://")[0]
    if scheme == "memory":
        return MemoryStore(settings.max_memory_bytes)
    if scheme in REDIS_SCHEMES:
        from gateway.cache.redis import RedisStore  # only who configures Redis pays for loading its client

        return RedisStore.open(url)
    raise ValueError(f"`{scheme}://` is no state store: write memory://, {', '.join(f'{s}://' for s in REDIS_SCHEMES)}")
