"""Short messages from each gateway to all others, through Redis or between the processes of one machine.

Messages are bytes, at most MOST_BYTES. None is kept for who is not there, and any may be lost.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from gateway.state.redis import connect

MOST_BYTES = 150_000  # a datagram takes no more than the system's default for buffers
COMMAND_SECONDS = 0.5
KEPT = 1_000  # messages in Redis: those of some seconds
KEPT_SECONDS = 60
MOST_READ = 500  # messages in one turn

_KEY = "tollgate:{routing}:1:deltas"
_FIELD = b"m"


class Deltas(Protocol):
    async def trade(self, message: bytes | None) -> list[bytes]:
        """Tells all others, and gives what was told since the last turn, perhaps one's own among it. Raises
        `state.redis.FAILURES` where that can not be done now."""
        ...

    async def close(self) -> None: ...


class RedisDeltas:
    """A stream that everybody adds to and reads on from where he was: one key, so that a cluster has it on one node,
    and one round trip a turn."""

    def __init__(self, url: str) -> None:
        self._client: Any = connect(url, name="tollgate-routing", seconds=COMMAND_SECONDS, connections=2)
        self._at: bytes | None = None  # the last entry that was read

    async def trade(self, message: bytes | None) -> list[bytes]:
        at = self._at
        if at is None:  # what was said before this one came is old
            last: list[tuple[bytes, Any]] = await self._client.xrevrange(_KEY, count=1)
            at = last[0][0] if last else b"0-0"
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.xread({_KEY: at}, count=MOST_READ)
            if message is not None:
                pipeline.xadd(_KEY, {_FIELD: message}, maxlen=KEPT, approximate=True)
                pipeline.expire(_KEY, KEPT_SECONDS)
            found, *rest = await pipeline.execute()
        entries: list[tuple[bytes, dict[bytes, bytes]]] = found[0][1] if found else []
        if entries:
            at = entries[-1][0]
        elif rest and _order(rest[0]) < _order(at):  # a server that has begun anew, with an earlier clock
            at = b"0-0"
        self._at = at
        return [fields[_FIELD] for _, fields in entries if _FIELD in fields]

    async def close(self) -> None:
        await self._client.aclose()


class LocalDeltas:
    """Datagrams between processes that share a directory. Who can not take one now goes without."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / f"routing-{os.getpid()}-{secrets.token_hex(3)}.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self._path))

    async def trade(self, message: bytes | None) -> list[bytes]:
        if message is not None:
            for other in self._path.parent.glob("routing-*.sock"):
                if other != self._path:
                    try:
                        self._socket.sendto(message, str(other))
                    except ConnectionRefusedError:  # its process was killed
                        other.unlink(missing_ok=True)
                    except OSError:
                        continue
        found: list[bytes] = []
        while len(found) < MOST_READ:
            try:
                found.append(self._socket.recv(MOST_BYTES))
            except BlockingIOError:
                break
        return found

    async def close(self) -> None:
        self._socket.close()
        with suppress(OSError):
            await asyncio.to_thread(self._path.unlink)


def _order(entry: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or 0)
