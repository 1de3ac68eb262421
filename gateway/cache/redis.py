"""A store that replicas share: Redis, or Redis Cluster.

Serving never depends on it. Lookups made in one turn of the event loop go as one command and wait `PATIENCE_SECONDS` at
most; writes happen in the background and are dropped when they pile up. After a failure the store is away: lookups are
misses and writes are dropped at no cost, until one background task has an answer from Redis again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from gateway.cache.codec import decode, encode
from gateway.cache.entry import Entry
from gateway.state.redis import CONNECT_SECONDS, FAILURES, connect, is_cluster

logger = logging.getLogger("tollgate.cache")

PREFIX = b"tollgate:cache:1:"

PATIENCE_SECONDS = 0.05  # for a lookup
LATENESS_SECONDS = 0.02  # a timeout that fires this late says more about this process than about Redis
PUT_SECONDS = 0.5
CLOSE_SECONDS = 1.0

MAX_READERS = 4  # batches of lookups under way at once
MAX_CONNECTIONS = MAX_READERS + 4  # the writer's, the recovery's, and room for connections being replaced
MAX_WAITING_GETS = 1_024
GETS_PER_COMMAND = 64

MAX_WAITING_PUT_BYTES = 16 * 1024 * 1024
PUT_BYTES_PER_COMMAND = 1024 * 1024

FIRST_RETRY_SECONDS = 0.25
LAST_RETRY_SECONDS = 5.0
REFUSAL_LOG_SECONDS = 60.0


class _Lookup(NamedTuple):
    key: bytes
    waiting: asyncio.Future[Entry | None]


class _Write(NamedTuple):
    key: bytes
    data: bytes
    ttl_ms: int


class Link(Protocol):
    """What the store needs of a Redis client."""

    async def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]: ...

    async def set_many(self, writes: Sequence[_Write]) -> Sequence[object]:
        """One result per write, an exception for each that Redis refused."""
        ...

    async def close(self) -> None: ...


class RedisStore:
    """Made with `open`. All of it runs on the event loop that first uses it. `patience` bounds a lookup, in seconds."""

    def __init__(self, link: Link, patience: float = PATIENCE_SECONDS) -> None:
        self._link = link
        self._patience = patience
        self._away = False
        self._closed = False
        self._wanted: deque[_Lookup] = deque()
        self._readers = 0
        self._reader_is_coming = False
        self._unwritten: deque[_Write] = deque()
        self._unwritten_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusal_logged_at = -REFUSAL_LOG_SECONDS
        self.dropped_puts = 0

    @classmethod
    def open(cls, url: str, patience: float = PATIENCE_SECONDS) -> RedisStore:
        """A store on whatever `state.redis.connect` takes."""
        client = connect(url, name="tollgate-cache", seconds=PUT_SECONDS, connections=MAX_CONNECTIONS)
        return cls(_ClientLink(client, client.mget_nonatomic if is_cluster(url) else client.mget), patience)

    @property
    def is_away(self) -> bool:
        return self._away

    async def get(self, key: bytes) -> Entry | None:
        if self._away or self._closed or len(self._wanted) >= MAX_WAITING_GETS:
            return None
        waiting: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        self._wanted.append(_Lookup(key, waiting))
        if not self._reader_is_coming and self._readers < MAX_READERS:
            self._reader_is_coming = True
            self._readers += 1
            self._start(self._read())
        return await waiting

    def put(self, key: bytes, entry: Entry, ttl: float) -> None:
        ttl_ms = int(ttl * 1000)
        if self._closed or ttl_ms <= 0:
            return
        data = None if self._away else encode(entry)
        if data is None or self._unwritten_bytes + len(data) > MAX_WAITING_PUT_BYTES:
            self.dropped_puts += 1
            return
        self._unwritten.append(_Write(PREFIX + key, data, ttl_ms))
        self._unwritten_bytes += len(data)
        if self._writer is None:
            self._writer = self._start(self._write())

    async def close(self) -> None:
        """Writes what waits, for a moment, and lets go of the connections."""
        self._closed = True
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=CLOSE_SECONDS)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._give_up_waiting()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._link.close()
        except FAILURES:
            logger.debug("redis connections closed late", exc_info=True)

    async def _read(self) -> None:
        """Answers the waiting lookups in batches until none waits."""
        self._reader_is_coming = False  # lookups that come from here on may want a further reader
        batch: list[_Lookup] = []
        loop = asyncio.get_running_loop()
        try:
            while self._wanted:
                batch = [self._wanted.popleft() for _ in range(min(len(self._wanted), GETS_PER_COMMAND))]
                began = loop.time()
                try:
                    async with asyncio.timeout(self._patience):
                        found = await self._link.get_many([PREFIX + key for key, _ in batch])
                except FAILURES as error:
                    if loop.time() - began > self._patience + LATENESS_SECONDS:
                        _miss(batch)  # the event loop itself was held up: the answer may well have been in time
                        continue
                    self._lose(error)
                    return
                for (_, waiting), data in zip(batch, found, strict=True):
                    if not waiting.done():  # its client has left
                        waiting.set_result(None if data is None else decode(data))
        finally:
            self._readers -= 1
            _miss(batch)

    async def _write(self) -> None:
        """Writes what waits in batches until nothing does."""
        try:
            while self._unwritten:
                batch, size = self._next_writes()
                try:
                    async with asyncio.timeout(PUT_SECONDS):
                        results = await self._link.set_many(batch)
                except FAILURES as error:
                    self.dropped_puts += len(batch)
                    self._lose(error)
                    return
                finally:
                    self._unwritten_bytes -= size
                refusals = [result for result in results if isinstance(result, Exception)]
                if refusals:
                    self.dropped_puts += len(refusals)
                    self._log_refusal(refusals[0])
        finally:
            self._writer = None

    def _next_writes(self) -> tuple[list[_Write], int]:
        batch: list[_Write] = []
        size = 0
        while self._unwritten and size < PUT_BYTES_PER_COMMAND:
            write = self._unwritten.popleft()
            batch.append(write)
            size += len(write.data)
        return batch, size

    def _lose(self, error: BaseException) -> None:
        """Redis has failed: nobody else pays for finding out."""
        if self._away or self._closed:
            return
        self._away = True
        self._give_up_waiting()
        logger.warning(
            "response cache away: serving without it", extra={"fields": {"error": str(error) or type(error).__name__}}
        )
        self._start(self._recover())

    def _give_up_waiting(self) -> None:
        _miss(self._wanted)
        self._wanted.clear()
        self.dropped_puts += len(self._unwritten)
        self._unwritten_bytes -= sum(len(write.data) for write in self._unwritten)
        self._unwritten.clear()

    async def _recover(self) -> None:
        """Asks from time to time until Redis answers."""
        pause = FIRST_RETRY_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._link.get_many([PREFIX + b"is-anybody-there"])
                break
            except FAILURES:
                pause = min(2 * pause, LAST_RETRY_SECONDS)
        self._away = False
        logger.info("response cache back")

    def _log_refusal(self, error: Exception) -> None:
        """Redis answers and takes no writes (out of memory, read-only replica): lookups go on."""
        now = time.monotonic()
        if now - self._refusal_logged_at >= REFUSAL_LOG_SECONDS:
            self._refusal_logged_at = now
            logger.warning("response cache takes no writes", extra={"fields": {"error": str(error)}})

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _ClientLink:
    """A redis-py client; a cluster's differs in how it looks up many keys."""

    def __init__(self, client: Any, get_many: Callable[[Sequence[bytes]], Awaitable[Sequence[bytes | None]]]) -> None:
        self._client = client
        self._get_many = get_many

    async def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return await self._get_many(keys)

    async def set_many(self, writes: Sequence[_Write]) -> Sequence[object]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for write in writes:
                pipeline.set(write.key, write.data, px=write.ttl_ms)
            return await pipeline.execute(raise_on_error=False)

    async def close(self) -> None:
        await self._client.aclose()


def _miss(lookups: Iterable[_Lookup]) -> None:
    for _, waiting in lookups:
        if not waiting.done():
            waiting.set_result(None)
