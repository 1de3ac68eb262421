"""Which workers an operator has drained, where all processes see it: in Redis, or in a file for those of one machine.

Both also know whether they were ever written, so that one that was lost is told from one in which nobody is drained.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import orjson

MOST_DRAINED = 10_000  # names that are kept
COMMAND_SECONDS = 1.0
PATIENCE_SECONDS = 1.5
KEY = "tollgate:drains:1"
_MADE = ".made"  # no worker's name begins with a dot


class DrainsAway(Exception):
    """The store can not be asked or takes no change; the message says what to do."""


class Drained(NamedTuple):
    was_made: bool
    names: frozenset[str]


class DrainStore(Protocol):
    """Every method raises DrainsAway, and waits for a few seconds at most."""

    async def read(self) -> Drained: ...

    async def change(self, changes: Mapping[str, bool]) -> None:
        """Adds the names that are True, takes away those that are False."""
        ...

    async def close(self) -> None: ...


class RedisDrains:
    """A hash with a field for each name. It connects when first used, and belongs to the loop that uses it."""

    def __init__(self, url: str) -> None:
        from gateway.state.redis import FAILURES, connect, without_password

        self._failures = FAILURES
        self._client = connect(url, name="tollgate-drains", seconds=COMMAND_SECONDS, connections=2)
        self._place = without_password(url)

    async def read(self) -> Drained:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                found: dict[bytes, bytes] = await self._client.hgetall(KEY)
        except self._failures as error:
            raise self._away(error) from error
        names = {name.decode() for name in found}
        return Drained(_MADE in names, frozenset(names - {_MADE}))

    async def change(self, changes: Mapping[str, bool]) -> None:
        added = {name: "1" for name, draining in changes.items() if draining}
        gone = [name for name, draining in changes.items() if not draining]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._client.hset(KEY, mapping={_MADE: "1", **added})
                if gone:
                    await self._client.hdel(KEY, *gone)
        except self._failures as error:
            raise self._away(error) from error

    async def close(self) -> None:
        await self._client.aclose()

    def _away(self, error: BaseException) -> DrainsAway:
        why = str(error) or type(error).__name__
        return DrainsAway(f"Redis at {self._place} does not do its work ({why}): see that it runs and takes writes")


class FileDrains:
    """A JSON list, made by the first change and replaced as a whole. Its lock is a file beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> Drained:
        return await asyncio.to_thread(self._read)

    async def change(self, changes: Mapping[str, bool]) -> None:
        await asyncio.to_thread(self._change, changes)

    async def close(self) -> None:
        """Nothing is open between two operations."""

    def _read(self) -> Drained:
        try:
            return Drained(True, frozenset(_names(self._path.read_bytes())))
        except FileNotFoundError:
            return Drained(False, frozenset())
        except (OSError, ValueError) as error:
            raise self._away(error) from error

    def _change(self, changes: Mapping[str, bool]) -> None:
        lock = self._path.with_suffix(".lock")
        fresh = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with lock.open("w") as held:
                fcntl.flock(held, fcntl.LOCK_EX)  # for as long as it takes to write a line
                names = set(self._read().names)
                names |= {name for name, draining in changes.items() if draining}
                names -= {name for name, draining in changes.items() if not draining}
                fresh.write_bytes(orjson.dumps(sorted(names)))
                fresh.replace(self._path)
        except OSError as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> DrainsAway:
        return DrainsAway(
            f"{self._path} cannot be used ({error}): make it and its directory writable, or move it away if it is not "
            "a JSON list of names"
        )


def _names(data: bytes) -> Iterable[str]:
    found: object = orjson.loads(data)
    if not isinstance(found, list):
        raise ValueError("no list")
    return [str(name) for name in cast("list[object]", found)]
