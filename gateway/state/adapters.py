"""Which adapters were added by the API, where all processes see them: in Redis, or in a file for those of one machine.

An entry is text that means nothing here, under the name of its adapter. Every change gives the store another revision;
one without any was never written to, or has lost what it had.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol, cast

import orjson

COMMAND_SECONDS = 1.0
PATIENCE_SECONDS = 1.5
KEY = "tollgate:adapters:1"
MOST_BYTES = 64 * 1024 * 1024  # of the file
_REVISION = ".revision"  # no model's name begins with a dot


class AdaptersAway(Exception):
    """The store can not be asked or takes no change; the message says what to do."""


class Kept(NamedTuple):
    revision: str
    entries: Mapping[str, str]


NOTHING_KEPT = Kept("", MappingProxyType({}))


class AdapterStore(Protocol):
    """Every method raises AdaptersAway, and waits for a few seconds at most."""

    async def read(self, known: str) -> Kept | None:
        """None where it still has the revision `known`."""
        ...

    async def add(self, name: str, entry: str) -> str:
        """What is kept under the name now: `entry`, or what stood there before, which stays."""
        ...

    async def remove(self, name: str) -> bool:
        """Whether it was there."""
        ...

    async def close(self) -> None: ...


class RedisAdapters:
    """A hash with a field for each adapter. It connects when first used, and belongs to the loop that uses it."""

    def __init__(self, url: str) -> None:
        from gateway.state.redis import FAILURES, connect, without_password

        self._failures = FAILURES
        self._client = connect(url, name="tollgate-adapters", seconds=COMMAND_SECONDS, connections=2)
        self._place = without_password(url)

    async def read(self, known: str) -> Kept | None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                revision: bytes | None = await self._client.hget(KEY, _REVISION)
                if known and revision == known.encode():
                    return None
                found: dict[bytes, bytes] = await self._client.hgetall(KEY)
        except self._failures as error:
            raise self._away(error) from error
        entries = {name.decode(errors="replace"): entry.decode(errors="replace") for name, entry in found.items()}
        return Kept(entries.pop(_REVISION, ""), entries)

    async def add(self, name: str, entry: str) -> str:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if await self._client.hsetnx(KEY, name, entry):
                    await self._client.hset(KEY, _REVISION, uuid.uuid4().hex)
                    return entry
                found: bytes | None = await self._client.hget(KEY, name)
        except self._failures as error:
            raise self._away(error) from error
        return "" if found is None else found.decode(errors="replace")

    async def remove(self, name: str) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                was_there = bool(await self._client.hdel(KEY, name))
                if was_there:
                    await self._client.hset(KEY, _REVISION, uuid.uuid4().hex)
        except self._failures as error:
            raise self._away(error) from error
        return was_there

    async def close(self) -> None:
        await self._client.aclose()

    def _away(self, error: BaseException) -> AdaptersAway:
        why = str(error) or type(error).__name__
        return AdaptersAway(f"Redis at {self._place} does not do its work ({why}): see that it runs and takes writes")


class FileAdapters:
    """A JSON object, made by the first change and replaced as a whole. Its lock is a file beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self, known: str) -> Kept | None:
        return await asyncio.to_thread(self._read, known)

    async def add(self, name: str, entry: str) -> str:
        found = await asyncio.to_thread(self._change, name, entry)
        return entry if found is None else found

    async def remove(self, name: str) -> bool:
        return await asyncio.to_thread(self._change, name, None) is not None

    async def close(self) -> None:
        """Nothing is open between two operations."""

    def _read(self, known: str) -> Kept | None:
        try:
            with self._path.open("rb") as file:
                about = os.fstat(file.fileno())
                revision = f"{about.st_mtime_ns}.{about.st_ino}.{about.st_size}"
                if revision == known:
                    return None
                if about.st_size > MOST_BYTES:
                    raise ValueError("it is too large")
                found: object = orjson.loads(file.read())
            if not isinstance(found, dict):
                raise ValueError("no object")
        except FileNotFoundError:
            return NOTHING_KEPT
        except (OSError, ValueError) as error:
            raise self._away(error) from error
        return Kept(revision, {name: str(entry) for name, entry in cast("dict[str, object]", found).items()})

    def _change(self, name: str, entry: str | None) -> str | None:
        """Adds the entry where there is none, removes it for None; what was there before."""
        lock = self._path.with_suffix(".lock")
        fresh = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with lock.open("w") as held:
                fcntl.flock(held, fcntl.LOCK_EX)  # for as long as it takes to write a line
                kept = self._read("") or NOTHING_KEPT
                entries = dict(kept.entries)
                before = entries.get(name)
                if entry is None:
                    entries.pop(name, None)
                else:
                    entries.setdefault(name, entry)
                if entries != kept.entries:
                    fresh.write_bytes(orjson.dumps(entries, option=orjson.OPT_SORT_KEYS))
                    fresh.replace(self._path)
        except OSError as error:
            raise self._away(error) from error
        return before

    def _away(self, error: Exception) -> AdaptersAway:
        return AdaptersAway(
            f"{self._path} cannot be used ({error}): make it and its directory writable, or move it away if it is not "
            "a JSON object of adapters"
        )
