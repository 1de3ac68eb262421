"""The keys of one gateway process: those of the YAML and those of the store, never older than the store's last change
by more than a poll.

The store is asked for its revision about every 0.6 s and read again when that has changed. Requests look their key up
in a dict that is replaced as a whole, and never wait for the store. While it is away the keys known so far count; a
process that has never reached it has those of the YAML, and cannot tell a key it does not know from a wrong one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import islice

from gateway.keyring.merge import Merger
from gateway.keyring.record import KeyName, Record, later
from gateway.keyring.store import KeyStore, StoreAway
from gateway.table import Table
from gateway.telemetry import Reading
from gateway.tenancy.keys import Keys

logger = logging.getLogger("tollgate.keys")

POLL_SECONDS = (0.5, 0.75)  # between two looks at the store, drawn anew each time: replicas do not march in step
FLUSH_SECONDS = 5.0
USES_PER_FLUSH = 2_000
CLOSE_SECONDS = 2.0


class Keyring:
    """`changed` is called, on the event loop, whenever `keys` is another."""

    def __init__(
        self, store: KeyStore, table: Table, changed: Callable[[], None], clock: Callable[[], float] = time.time
    ) -> None:
        self.store = store
        self.records: Mapping[KeyName, Record] = {}
        self.shadowed: frozenset[KeyName] = frozenset()
        self.away = ""  # why the store could not be read at the last look
        self._table = table
        self._changed = changed
        self._clock = clock
        self._revision: str | None = None  # of the records; None: to be read again in any case
        self._reached_at: float | None = None
        self._merger = Merger()
        self._unwritable = ""  # why the last uses could not be noted
        self._looking = asyncio.Lock()
        self.keys = Keys(table.keys, {}, complete=False)

    def apply(self, table: Table) -> None:
        """Another configuration is in effect. Does not call `changed`."""
        self._table = table
        self._merge()

    async def run(self) -> None:
        """Keeps the keys current and notes their use, until cancelled."""
        await asyncio.gather(
            _again_and_again(lambda: random.uniform(*POLL_SECONDS), self.refresh),
            _again_and_again(lambda: FLUSH_SECONDS, self.flush),
        )

    async def refresh(self) -> None:
        """Looks at the store now. What fails is told and tried again by `run`."""
        async with self._looking:
            try:
                await self._look()
            except StoreAway as error:
                self._lose(str(error))
            else:
                self._reach()

    async def close(self) -> None:
        """Notes what is still to be noted, for a moment, and lets go of the store."""
        with contextlib.suppress(TimeoutError, StoreAway):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.flush()
                await self.store.close()

    async def uses(self) -> dict[KeyName, float]:
        """When each key was last used, as far as it is known here and in the store."""
        here = dict(self.keys.used)
        try:
            noted = await self.store.uses()
        except StoreAway:
            noted = {}
        return {name: max(noted.get(name, 0.0), here.get(name, 0.0)) for name in noted.keys() | here.keys()}

    async def flush(self) -> None:
        """Tells the store which keys were used since the last time. What it does not take is kept for the next."""
        used = self.keys.used
        batch = dict(islice(used.items(), USES_PER_FLUSH))
        if not batch:
            return
        for name in batch:
            del used[name]
        try:
            await self.store.note_uses(batch)
        except StoreAway as error:
            for name, at in batch.items():
                used.setdefault(name, at)
            if not self._unwritable and not self.away:
                logger.warning("when keys were last used is not noted", extra={"fields": {"error": str(error)}})
            self._unwritable = str(error)
        else:
            self._unwritable = ""

    def readings(self) -> Iterator[Reading]:
        """For the metrics."""
        written = len(self._table.keys)
        known = "API keys that are let in, by where they are kept."
        yield Reading("tollgate_keys", known, written, {"source": "yaml"})
        yield Reading("tollgate_keys", known, len(self.keys.by_digest) - written, {"source": "store"})
        up = float(not self.away and self._reached_at is not None)
        yield Reading("tollgate_keys_store_up", "1 when the store of keys answered at the last look.", up, {})
        if self._reached_at is not None:
            age = max(0.0, time.monotonic() - self._reached_at)
            yield Reading("tollgate_keys_age_seconds", "Since the store of keys last answered.", age, {})

    async def _look(self) -> None:
        revision = await self.store.revision()
        if revision == self._revision:
            return
        snapshot = await self.store.load()
        lost = self._lost(snapshot.records)
        self.records = snapshot.records | {record.name: record for record in lost}
        self._revision = None if lost else snapshot.revision
        self._merge()
        self._changed()
        if lost:
            await self._put_back(lost, snapshot.records)

    def _lost(self, found: Mapping[KeyName, Record]) -> list[Record]:
        """What the store knew once and does not know now, as it should know it."""
        now = self._clock()
        unlike = [(ours, found.get(name)) for name, ours in self.records.items() if found.get(name) is not ours]
        missing = [later(ours, theirs) for ours, theirs in unlike if not ours.is_history(now)]
        return [record for record in missing if record is not None]

    async def _put_back(self, lost: list[Record], found: Mapping[KeyName, Record]) -> None:
        logger.warning("the store had lost keys, they are put back", extra={"fields": {"count": len(lost)}})
        for record in lost:  # another process may do so at the same time: whoever is second changes nothing
            there = found.get(record.name)
            await self.store.swap(record.name, 0 if there is None else there.version, record)

    def _merge(self) -> None:
        table = self._table
        merged = self._merger.merge(table.keys, table.tenants, self.records.values())
        for tenant, key_id in sorted(merged.shadowed - self.shadowed):
            logger.warning(
                "a key of the store does not count: the YAML has one of the same id or secret",
                extra={"fields": {"tenant": tenant, "key": key_id}},
            )
        self.shadowed = merged.shadowed
        complete = self.keys.complete or self._revision is not None
        self.keys = Keys(merged.by_digest, self.keys.used, complete)

    def _lose(self, error: str) -> None:
        if not self.away:
            fields = {"error": error, "known": len(self.records), "complete": self.keys.complete}
            logger.warning("key store away: serving with the keys known", extra={"fields": fields})
        self.away = error

    def _reach(self) -> None:
        if self.away:
            logger.info("key store back", extra={"fields": {"known": len(self.records)}})
        self.away = ""
        self._reached_at = time.monotonic()


async def _again_and_again(pause: Callable[[], float], work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(pause())
        try:
            await work()
        except Exception:  # a fault of this package's own must not leave the process with old keys for ever
            logger.exception("the keys could not be looked after, those known stay in effect")
