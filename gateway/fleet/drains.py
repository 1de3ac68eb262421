"""Drains hold in every process: what an operator says to one of them is written to a store that all of them follow.

A drain holds for the name until that is undrained, also while no process sees a worker of that name: one that looks
away for a moment says nothing of the others. The store is read every 0.6 s or so. While it is away a change holds where
it was made and is written when the store is back; the others keep what they know. A store that has lost what it had is
given it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterator

from gateway.fleet.backend import Backend
from gateway.fleet.registry import Fleet
from gateway.ledger.location import directory_beside
from gateway.state.drains import MOST_DRAINED, DrainsAway, DrainStore, FileDrains, RedisDrains
from gateway.telemetry import Reading

logger = logging.getLogger("tollgate.fleet")

POLL_SECONDS = (0.5, 0.75)  # between two looks, drawn anew each time: replicas do not march in step
CLOSE_SECONDS = 2.0
FILE = "drains.json"


class TooManyDrained(Exception):
    """`MOST_DRAINED` names are drained: others must be undrained first."""


def open_drain_store(state: str, ledger: str) -> DrainStore:
    """Of gateway.yaml's `state:` and `ledger:`. Connects to nothing and makes no file yet."""
    if not state.startswith("memory:"):
        return RedisDrains(state)
    return FileDrains(directory_beside(ledger) / FILE)


class Drains:
    """Of one process; None as the store is for one that shares them with nobody."""

    def __init__(self, store: DrainStore | None, fleet: Fleet) -> None:
        self._store = store
        self._fleet = fleet
        self._known: frozenset[str] = frozenset()  # of the store
        self._unwritten: dict[str, bool] = {}  # changes made here that it does not have yet
        self._looking = asyncio.Lock()
        self.away = ""  # why the store could not be used at the last look

    @property
    def shared(self) -> bool:
        """Whether all that was said here is where the others see it."""
        return not self._unwritten

    async def change(self, name: str, draining: bool) -> Backend | None:
        """Takes effect here at once. None for one that was drained and of which this process sees no worker now;
        KeyError when neither is so. Raises `TooManyDrained`."""
        if draining:
            drained = self._fleet.drained
            if name not in drained and len(drained) >= MOST_DRAINED:
                raise TooManyDrained
            backend: Backend | None = self._fleet.drain(name)
        else:
            if name not in self._fleet.workers():  # another process may have drained it just now
                await self.look()
            backend = self._fleet.undrain(name)
        if self._store is not None:
            if name in self._unwritten or len(self._unwritten) < MOST_DRAINED:
                self._unwritten[name] = draining
            await self.look()
        return backend

    async def run(self) -> None:
        """Follows the store until cancelled."""
        while self._store is not None:
            await asyncio.sleep(random.uniform(*POLL_SECONDS))
            try:
                await self.look()
            except Exception:  # a fault of ours must not leave the process with old drains for ever
                logger.exception("the drained workers could not be looked after, those known stay")

    async def look(self) -> None:
        """Tells the store what it does not know yet, and does what it says."""
        if self._store is None:
            return
        async with self._looking:
            try:
                await self._look(self._store)
            except DrainsAway as error:
                if not self.away:
                    logger.warning("drained workers not read: those known stay", extra={"fields": {"why": str(error)}})
                self.away = str(error)
            else:
                self.away = ""

    async def close(self) -> None:
        if self._store is not None:
            with contextlib.suppress(TimeoutError, DrainsAway):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._store.close()

    def readings(self) -> Iterator[Reading]:
        """For the metrics."""
        away = "1 while it cannot be read which workers are drained."
        yield Reading("tollgate_drains_away", away, float(bool(self.away)), {})

    async def _look(self, store: DrainStore) -> None:
        found = await store.read()
        if not found.was_made and self._known:
            logger.warning("the store had lost which workers are drained, they are put back")
            self._unwritten = {**dict.fromkeys(self._known, True), **self._unwritten}
        names = found.names
        if self._unwritten:
            writing = dict(self._unwritten)
            await store.change(writing)
            names = (names | {name for name in writing if writing[name]}) - {
                name for name in writing if not writing[name]
            }
            for name, draining in writing.items():
                if self._unwritten.get(name) is draining:
                    del self._unwritten[name]
        self._known = frozenset(sorted(names)[:MOST_DRAINED])
        said = (self._known | {one for one, drains in self._unwritten.items() if drains}) - {
            one for one, drains in self._unwritten.items() if not drains
        }
        self._fleet.keep_drained(said)
