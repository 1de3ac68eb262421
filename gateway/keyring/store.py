"""What a store of keys has to do. One contract, two stores: `redis` for replicas, `sqlite` for one machine."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from gateway.keyring.record import KeyName, Record, RecordError, decode

logger = logging.getLogger("tollgate.keys")

MAX_KEYS = 10_000  # of the store; more are not taken


class StoreAway(Exception):
    """The store can not be asked or does not take a change; the message says what to do. Nothing has been changed."""


class Snapshot(NamedTuple):
    revision: str  # "" of a store that holds nothing
    records: dict[KeyName, Record]


class KeyStore(Protocol):
    """Every method raises StoreAway, and waits for a few seconds at most."""

    @property
    def place(self) -> str:
        """Where it is, as it may be shown: without a password."""
        ...

    async def revision(self) -> str:
        """Differs after every change of a record. Cheap."""
        ...

    async def load(self) -> Snapshot:
        """All records. They are at least as new as the revision beside them."""
        ...

    async def swap(self, name: KeyName, version: int, after: Record | None) -> bool:
        """Put `after` (None: nothing) in the place of a record of that version (0: of nothing); False, and no change,
        where another version is found."""
        ...

    async def note_uses(self, uses: Mapping[KeyName, float]) -> None:
        """When keys were last used, in Unix seconds. Of two times the later one stays."""
        ...

    async def uses(self) -> dict[KeyName, float]: ...

    async def close(self) -> None: ...


class Decoder:
    """Reads the stored form. A record that was there the last time is the same object: of thousands of keys, a change
    costs the reading of those that changed."""

    def __init__(self) -> None:
        self._known: dict[bytes, Record | None] = {}

    def read(self, found: Iterable[bytes]) -> dict[KeyName, Record]:
        """Those that are records; another one is told, once, and costs the others nothing."""
        before, now = self._known, dict[bytes, Record | None]()
        for data in found:
            now[data] = before[data] if data in before else _decoded(data)
        self._known = now
        return {record.name: record for record in now.values() if record is not None}


def _decoded(data: bytes) -> Record | None:
    try:
        return decode(data)
    except RecordError as error:
        logger.error("a key in the store cannot be read and is left out", extra={"fields": {"error": str(error)}})
        return None
