"""The store of keys that replicas share: Redis, or Redis Cluster.

Two hashes of one slot. `{tollgate:keys:1}` has a record per field `tenant/id`, and the revision in a field of its own:
what evicts or loses the records takes the revision along, and so is noticed. `{tollgate:keys:1}:used` has the times.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.keyring.record import KeyName, Record, encode
from gateway.keyring.store import Decoder, Snapshot, StoreAway
from gateway.state.redis import FAILURES, connect

RECORDS = "{tollgate:keys:1}"
USES = "{tollgate:keys:1}:used"
REVISION = "revision"  # no record's field: those have a slash

COMMAND_SECONDS = 1.0
PATIENCE_SECONDS = 1.5  # for a command with its turn; a cluster's client may ask one node after another
MAX_CONNECTIONS = 3

_LOAD = (Path(__file__).parent / "load.lua").read_text()
_SWAP = (Path(__file__).parent / "swap.lua").read_text()
_NOTE_USES = (Path(__file__).parent / "note_uses.lua").read_text()


class RedisKeyStore:
    """On whatever `state.redis.connect` takes. It connects when first used, and belongs to the loop that uses it."""

    def __init__(self, url: str) -> None:
        self._client = connect(url, name="tollgate-keys", seconds=COMMAND_SECONDS, connections=MAX_CONNECTIONS)
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)  # a client that has no connection left fails at once
        self._decoder = Decoder()
        self.place = _without_password(url)

    async def revision(self) -> str:
        found: bytes | None = await self._do("hget", RECORDS, REVISION)
        return "" if found is None else found.decode()

    async def load(self) -> Snapshot:
        found: tuple[bytes, bytes] = await self._do("eval", _LOAD, 1, RECORDS)
        return Snapshot(found[0].decode(), self._decoder.read(found[1].splitlines()))

    async def swap(self, name: KeyName, version: int, after: Record | None) -> bool:
        data = b"" if after is None else encode(after)
        arguments = (RECORDS, USES, _field(name), version, data, secrets.token_hex(8))
        return bool(await self._do("eval", _SWAP, 2, *arguments))

    async def note_uses(self, uses: Mapping[KeyName, float]) -> None:
        pairs = [part for name, at in uses.items() for part in (_field(name), f"{at:.3f}")]
        await self._do("eval", _NOTE_USES, 1, USES, *pairs)

    async def uses(self) -> dict[KeyName, float]:
        found: dict[bytes, bytes] = await self._do("hgetall", USES)
        return {_name(field): float(at) for field, at in found.items()}

    async def close(self) -> None:
        await self._do("aclose")

    async def _do(self, command: str, *arguments: object) -> Any:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._turns:
                return await getattr(self._client, command)(*arguments)
        except FAILURES as error:
            why = str(error) or type(error).__name__
            raise StoreAway(
                f"the store of keys at {self.place} does not do its work ({why}): see that this Redis runs, can be "
                "reached from here and takes writes"
            ) from error


def _field(name: KeyName) -> str:
    return "/".join(name)


def _name(field: bytes) -> KeyName:
    tenant, _, key_id = field.decode().partition("/")
    return tenant, key_id


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
