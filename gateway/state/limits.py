"""The accounts that replicas share, in Redis: what `limits.lua` keeps, and who is there to share it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, NamedTuple

import orjson

from gateway.state.redis import NoScriptError, connect, is_cluster

SCRIPT = (files("gateway") / "state" / "limits.lua").read_text()
_SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # Redis' name for it

KEEP_MS = 400 * 24 * 3_600_000  # a tenant that nobody has asked for in so long begins anew
PRESENT_SECONDS = 20.0  # for which a replica counts after it last said so
FRESH_SECONDS = 2.0  # one that is well says so every second
COMMAND_SECONDS = 1.0
CONNECTIONS = 8

_PREFIX = "tollgate:limits:1:"
_PRESENCE = "tollgate:replicas:1"


class Call(NamedTuple):
    """One run of the script: `written` is its JSON argument."""

    tenant: str
    written: list[Any]


class Presence(NamedTuple):
    processes: int
    is_known: bool  # whether this one had said so before
    has_company: bool  # whether others are well, or there never were any


def presence(before: Mapping[str, float], holder: str, now: float) -> Presence:
    """`before` is when each process said last that it is there. A holder's name up to its last `/` is its place, where
    it stands in for whoever was there before: one that was killed is nobody to wait for."""
    place = holder.rpartition("/")[0]
    others = [
        seen for name, seen in before.items() if name != holder and (not place or name.rpartition("/")[0] != place)
    ]
    return Presence(
        1 + sum(1 for seen in others if seen > now - PRESENT_SECONDS),
        holder in before,
        not others or max(others) > now - FRESH_SECONDS,
    )


def said_at(now: float, *, well: bool) -> float:
    """What is kept of a process that says it is there: one that is not well is there, but no company yet."""
    return now if well else now - FRESH_SECONDS


class RedisLimits:
    """Made with `open`. A failure of any command raises one of `state.redis.FAILURES`."""

    def __init__(self, client: Any, *, cluster: bool) -> None:
        self._client = client
        self._cluster = cluster

    @classmethod
    def open(cls, url: str, *, seconds: float = COMMAND_SECONDS) -> RedisLimits:
        client = connect(url, name="tollgate-limits", seconds=seconds, connections=CONNECTIONS)
        return cls(client, cluster=is_cluster(url))

    async def claim(self, calls: Sequence[Call]) -> list[list[int]]:
        """The script's answer to each call; those of one round go as one message where one server has them all."""
        keys = [f"{_PREFIX}{{{call.tenant}}}" for call in calls]
        arguments = [orjson.dumps(call.written) for call in calls]
        if self._cluster:
            return list(await asyncio.gather(*map(self._run, keys, arguments)))
        answers = await self._run_all(keys, arguments)
        if any(isinstance(answer, NoScriptError) for answer in answers):  # a server that has begun anew
            await self._client.script_load(SCRIPT)
            again = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            answered = await self._run_all([keys[i] for i in again], [arguments[i] for i in again])
            for i, answer in zip(again, answered, strict=True):
                answers[i] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _run_all(self, keys: list[str], arguments: list[bytes]) -> list[Any]:
        if len(keys) == 1:
            try:
                return [await self._client.evalsha(_SHA, 1, keys[0], arguments[0], KEEP_MS)]
            except NoScriptError as error:
                return [error]
        async with self._client.pipeline(transaction=False) as pipeline:
            for key, argument in zip(keys, arguments, strict=True):
                pipeline.evalsha(_SHA, 1, key, argument, KEEP_MS)
            return await pipeline.execute(raise_on_error=False)

    async def _run(self, key: str, argument: bytes) -> list[int]:
        """On the node of a cluster that has the key, which may not know the script yet."""
        try:
            return await self._client.evalsha(_SHA, 1, key, argument, KEEP_MS)
        except NoScriptError:
            return await self._client.eval(SCRIPT, 1, key, argument, KEEP_MS)

    async def present(self, holder: str, *, well: bool = True) -> Presence:
        """Says that this process is there, and whether it is `well`: has told the store all that it should know."""
        now = time.time()
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.zrange(_PRESENCE, 0, -1, withscores=True)
            pipeline.zadd(_PRESENCE, {holder: said_at(now, well=well)})
            pipeline.zremrangebyscore(_PRESENCE, 0, now - PRESENT_SECONDS)
            before, _, _ = await pipeline.execute()
        return presence({name.decode(): seen for name, seen in before}, holder, now)

    async def leave(self, holder: str) -> None:
        await self._client.zrem(_PRESENCE, holder)

    async def close(self) -> None:
        await self._client.aclose()
