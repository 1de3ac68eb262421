"""Clients of Redis or Redis Cluster, by URL. The only importer of redis."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlsplit

import redis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError
from redis.retry import Retry as BlockingRetry

__all__ = [
    "CONNECT_SECONDS",
    "FAILURES",
    "NoScriptError",
    "ResponseError",
    "connect",
    "connect_blocking",
    "is_cluster",
    "without_password",
]

CONNECT_SECONDS = 1.0

FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError)  # the second is no kind of the first


def is_cluster(url: str) -> bool:
    return url.partition("://")[0].endswith("+cluster")


def connect(url: str, *, name: str, seconds: float, connections: int) -> Any:
    """A client for `redis://`, `rediss://`, `redis+cluster://` or `rediss+cluster://`; it connects when first used.

    `name` is what `CLIENT LIST` shows, `seconds` bounds a command, `connections` how many may be open (to each node).
    Nothing is tried again: the caller decides what a failure means.
    """
    options = {**_options(name, seconds, connections), "retry": Retry(NoBackoff(), 0)}
    if not is_cluster(url):
        return cast("Any", Redis).from_url(url, **options)
    options["retry"] = Retry(NoBackoff(), 1)  # a slot that has moved is asked for once more
    return cast("Any", RedisCluster).from_url(url.replace("+cluster", "", 1), **options)


def connect_blocking(url: str, *, name: str, seconds: float, connections: int) -> Any:
    """The same for threads: its commands block the caller."""
    options = {**_options(name, seconds, connections), "retry": BlockingRetry(NoBackoff(), 0)}
    if not is_cluster(url):
        return cast("Any", redis.Redis).from_url(url, **options)
    options["retry"] = BlockingRetry(NoBackoff(), 1)
    return cast("Any", redis.RedisCluster).from_url(url.replace("+cluster", "", 1), **options)


def without_password(url: str) -> str:
    """For messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _options(name: str, seconds: float, connections: int) -> dict[str, Any]:
    return {
        "max_connections": connections,
        "socket_timeout": seconds,
        "socket_connect_timeout": CONNECT_SECONDS,
        "protocol": 2,
        "client_name": name,
    }
