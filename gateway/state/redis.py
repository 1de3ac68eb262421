"""Clients of Redis or Redis Cluster, by URL. The only importer of redis."""

from __future__ import annotations

from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

__all__ = ["CONNECT_SECONDS", "FAILURES", "NoScriptError", "connect", "is_cluster"]

CONNECT_SECONDS = 1.0

FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError)  # the second is no kind of the first


def is_cluster(url: str) -> bool:
    return url.partition("://")[0].endswith("+cluster")


def connect(url: str, *, name: str, seconds: float, connections: int) -> Any:
    """A client for `redis://`, `rediss://`, `redis+cluster://` or `rediss+cluster://`; it connects when first used.

    `name` is what `CLIENT LIST` shows, `seconds` bounds a command, `connections` how many may be open (to each node).
    Nothing is tried again: the caller decides what a failure means.
    """
    options: dict[str, Any] = {
        "max_connections": connections,
        "socket_timeout": seconds,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": name,
    }
    if not is_cluster(url):
        return cast("Any", Redis).from_url(url, **options)
    options["retry"] = Retry(NoBackoff(), 1)  # a slot that has moved is asked for once more
    return cast("Any", RedisCluster).from_url(url.replace("+cluster", "", 1), **options)
