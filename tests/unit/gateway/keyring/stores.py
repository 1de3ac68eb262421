"""A store of keys for tests: a dict that can be away, can forget, and remembers what it was asked."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from gateway.keyring.record import KeyName, Record
from gateway.keyring.store import Snapshot, StoreAway


class DictStore:
    place = "memory"

    def __init__(self) -> None:
        self.records: dict[KeyName, Record] = {}
        self.used: dict[KeyName, float] = {}
        self.away = False
        self.full = False
        self.loads = 0
        self.rivals: list[Record] = []  # what others put in before each coming change
        self._revision = ""

    async def revision(self) -> str:
        self._answer()
        return self._revision

    async def load(self) -> Snapshot:
        self.loads += 1
        return Snapshot(await self.revision(), dict(self.records))

    async def swap(self, name: KeyName, version: int, after: Record | None) -> bool:
        self._answer()
        if self.full:
            raise StoreAway("the store is full")
        if self.rivals:
            self.put(self.rivals.pop(0))
        found = self.records.get(name)
        if (0 if found is None else found.version) != version:
            return False
        if after is None:
            del self.records[name]
            self._revision = secrets.token_hex(4)
        else:
            self.put(after)
        return True

    async def note_uses(self, uses: Mapping[KeyName, float]) -> None:
        self._answer()
        self.used |= uses

    async def uses(self) -> dict[KeyName, float]:
        self._answer()
        return dict(self.used)

    async def close(self) -> None:
        pass

    def put(self, record: Record) -> None:
        self.records[record.name] = record
        self._revision = secrets.token_hex(4)

    def forget(self) -> None:
        """As a Redis does that keeps nothing on disk and is started again."""
        self.records, self._revision = {}, ""

    def _answer(self) -> None:
        if self.away:
            raise StoreAway("the store is away")
