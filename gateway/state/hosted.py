"""The accounts that the processes of one gateway share, asked of the parent that keeps them (`gateway/books_host.py`).

A Unix socket that only this user reaches; one JSON line for a round of claims, one for the answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from gateway.state.limits import Call, Presence

LONGEST_LINE = 16 * 1024 * 1024


class HostedLimits:
    """The same to `SharedLimiter` as `RedisLimits` is. Rounds go one after the other; a failure closes the connection,
    so that no late answer is taken for another's."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._turn = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def claim(self, calls: Sequence[Call]) -> list[list[int]]:
        return await self._ask([[call.tenant, *call.written] for call in calls])

    async def present(self, holder: str, *, well: bool = True) -> Presence:
        return Presence(*await self._ask({"holder": holder, "well": well}))

    async def leave(self, holder: str) -> None:
        """The parent sees it by the end of the connection."""

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _ask(self, question: object) -> Any:
        async with self._turn:
            try:
                if self._streams is None:
                    self._streams = await asyncio.open_unix_connection(self._path, limit=LONGEST_LINE)
                reader, writer = self._streams
                writer.write(orjson.dumps(question) + b"\n")
                await writer.drain()
                return orjson.loads(await reader.readuntil(b"\n"))
            except BaseException as error:
                await self.close()
                if isinstance(error, asyncio.IncompleteReadError):
                    raise ConnectionError("the parent has closed the connection") from error
                if isinstance(error, asyncio.LimitOverrunError | orjson.JSONDecodeError):
                    raise ConnectionError("the parent's answer can not be read") from error
                raise
