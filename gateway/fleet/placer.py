"""Loads and unloads the adapters of one worker, as `routing/placement` decides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from gateway.engines.dialect import Order, PlacesAdapters
from gateway.errors import AdapterNotLoaded, Overloaded
from gateway.fleet.adapter_check import complaint, unfit
from gateway.fleet.backend import Backend
from gateway.fleet.probes import ProbeFailed, Prober
from gateway.routing.placement import Shelf
from gateway.table import Adapter

logger = logging.getLogger("tollgate.fleet")

LOADS_AT_ONCE = 2  # on one worker
LOAD_SECONDS = 120.0  # one may take
UNLOAD_SECONDS = 10.0
ROOM_SECONDS = 30.0  # for one that is in use by all to be let go
ROOM_POLL_SECONDS = 0.05  # requests end in a plain count that tells nobody
AWAY_POLL_SECONDS = 0.1  # between two looks of those who wait whether the worker is there
MOST_WAITING = 1024  # requests for loads of one worker

Refusal = Callable[[int, bytes], str | None]
OnMove = Callable[[bool, str, Literal["ok", "failed"]], None]  # whether it was a load, of which model, how it went


class Placer:
    """One worker's. `find_name` gives the engine's name for an adapter of a model; `on_change` is called after every
    change, `on_move` after every load or unload that was tried."""

    def __init__(
        self,
        backend: Backend,
        shelf: Shelf,
        dialect: PlacesAdapters,
        prober: Prober,
        find_name: Callable[[str, Adapter], Awaitable[str]],
        on_change: Callable[[], None],
        on_move: OnMove,
    ) -> None:
        self.backend = backend
        self._shelf = shelf
        self._dialect = dialect
        self._prober = prober
        self._find_name = find_name
        self._on_change = on_change
        self._on_move = on_move
        self._turns = asyncio.Semaphore(LOADS_AT_ONCE)
        self._making_room = asyncio.Lock()
        self._loads: dict[str, asyncio.Task[None]] = {}  # by the engine's name
        self._unloads: set[asyncio.Task[None]] = set()
        self._waiting = 0

    async def bring(self, adapter: Adapter, within: float, may_leave: Callable[[], bool] = lambda: False) -> str:
        """The engine's name of the adapter, which is there and stays until `shelf.leave` is called with that name.

        Waits for its load, which others may wait for too and which goes on when the caller leaves. Raises
        `AdapterNotLoaded`, also when the worker is silent or down and the caller `may_leave`, and `Overloaded` where
        too many wait.
        """
        if self._waiting >= MOST_WAITING:
            raise Overloaded("Too many requests wait for adapters of this model.", retry_after=5.0)
        self._waiting += 1
        name = ""
        try:
            async with asyncio.timeout(within):
                name = await self._find_name(self.backend.worker.model, adapter)
                self._shelf.enter(name)
                load = self.start(adapter, name)
                while not load.done():
                    await asyncio.wait((load,), timeout=AWAY_POLL_SECONDS)
                    if not load.done() and (self.backend.silent or not self.backend.up) and may_leave():
                        raise _not_loaded(adapter, "its worker does not answer", 1.0)
                load.result()
        except TimeoutError:
            self._leave(name)
            raise AdapterNotLoaded(
                f"The adapter `{adapter.name}` is not loaded yet: try again shortly.", retry_after=5.0
            ) from None
        except BaseException:
            self._leave(name)
            raise
        finally:
            self._waiting -= 1
        return name

    def start(self, adapter: Adapter, name: str) -> asyncio.Task[None]:
        """The load of it, under way already or begun now; it ends at once for one that is there."""
        task = self._loads.get(name)
        if task is None:
            task = asyncio.create_task(self._load(adapter, name), name=f"load {name}")
            self._loads[name] = task
            task.add_done_callback(lambda done: self._ended(name, done))
        return task

    def unload(self, name: str) -> None:
        """Begins to, if nobody uses it."""
        resident = self._shelf.residents.get(name)
        if resident is None or not resident.is_held or name in self._shelf.using:
            return
        resident.is_held = False
        self._changed()
        task = asyncio.create_task(self._unload_alone(name), name=f"unload {name}")
        self._unloads.add(task)
        task.add_done_callback(self._unloads.discard)

    @property
    def is_loading(self) -> bool:
        return bool(self._loads)

    async def close(self) -> None:
        tasks = [*self._loads.values(), *self._unloads]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, adapter: Adapter, name: str) -> None:
        shelf = self._shelf
        async with self._turns:
            resident = shelf.residents.get(name)
            if resident is not None and resident.is_held:
                return
            failure = shelf.failure(adapter.name)
            if failure is not None and failure.name == name:
                raise _not_loaded(adapter, failure.why, failure.until - time.monotonic())
            order = self._dialect.load_adapter(name, self._path(adapter))
            why: str | None = await self._flaw(adapter)  # before another has to go for it
            is_said, began = True, time.monotonic()
            if not why:
                if await self._make_room(adapter, name):
                    return
                began = time.monotonic()
                if adapter.examined:
                    why = await self._flaw(adapter)  # there may have been no room for long
                if not why:
                    why, is_said = await self._do(order, LOAD_SECONDS, self._dialect.load_refusal)
            now = time.monotonic()
            self._on_move(True, self.backend.worker.model, "ok" if why is None else "failed")
            fields: dict[str, object] = {"worker": self.backend.worker.name, "adapter": name}
            if why is None:
                shelf.loaded(name, now - began, now)
                logger.info("adapter loaded", extra={"fields": {**fields, "seconds": round(now - began, 3)}})
                self._changed()
                return
            why = _tidy(why.replace(order.body["lora_path"], "its path"))  # where things lie is for the operator
            failure = shelf.failed(name, adapter.name, why, now, is_said=is_said)
            logger.warning("adapter not loaded", extra={"fields": {**fields, "why": why, "path": adapter.path}})
            self._failed(adapter)
            raise _not_loaded(adapter, why, failure.until - now)

    async def _flaw(self, adapter: Adapter) -> str:
        """What is wrong with its files, "" where nothing is, or nothing is to be seen of them here."""
        return await asyncio.to_thread(complaint if adapter.examined else unfit, adapter.path)

    async def _make_room(self, adapter: Adapter, name: str) -> bool:
        """Takes a place for it, having unloaded another where there is none. True where it is there already."""
        shelf, deadline = self._shelf, time.monotonic() + ROOM_SECONDS
        async with self._making_room:
            while (resident := shelf.residents.get(name)) is not None or shelf.free <= 0:
                if resident is not None and resident.is_held:
                    return True
                victim = shelf.victim() if resident is None else None  # one that is leaving comes back when it has left
                doubt = None if shelf.placement is None else shelf.placement.doubt(adapter.name)
                if doubt is not None and resident is None:
                    raise _not_loaded(adapter, doubt.why, doubt.until - time.monotonic())
                if victim is None:
                    if time.monotonic() > deadline or shelf.room <= len(shelf.fixed):
                        raise _not_loaded(adapter, "every adapter in its place is in use", 1.0)
                    await asyncio.sleep(ROOM_POLL_SECONDS)
                    continue
                victim.is_held = False
                self._changed()
                if (why := await self._unload(victim.name)) is not None:
                    raise _not_loaded(adapter, f"another could not be unloaded: {why}", 1.0)
            shelf.begin(name, adapter.name, time.monotonic())
            return False

    async def _unload_alone(self, name: str) -> None:
        await self._unload(name)

    async def _unload(self, name: str) -> str | None:
        """Why it is there still; what was asked and not answered is for the engine's next list to say."""
        why, _ = await self._do(self._dialect.unload_adapter(name), UNLOAD_SECONDS, self._dialect.unload_refusal)
        self._on_move(False, self.backend.worker.model, "ok" if why is None else "failed")
        fields: dict[str, object] = {"worker": self.backend.worker.name, "adapter": name}
        if why is None:
            self._shelf.gone(name)
            logger.info("adapter unloaded", extra={"fields": fields})
        else:
            if (resident := self._shelf.residents.get(name)) is not None:
                resident.is_held = True
            logger.warning("adapter not unloaded", extra={"fields": {**fields, "why": why}})
        self._changed()
        return why

    async def _do(self, order: Order, within: float, refusal: Refusal) -> tuple[str | None, bool]:
        """Why it is not done, None where it is; and whether the engine has said so."""
        try:
            status, answer = await self._prober.order(order, within)
        except ProbeFailed as error:
            return str(error), False
        return refusal(status, answer), status < 500

    def _path(self, adapter: Adapter) -> str:
        """A worker that is started here is told the whole path: its own directory is another."""
        return str(Path.cwd() / adapter.path) if self.backend.worker.launch is not None else adapter.path

    def _failed(self, adapter: Adapter) -> None:
        if self._shelf.placement is not None:
            self._shelf.placement.forget(adapter.name)
        self._changed()

    def _changed(self) -> None:
        self.backend.adapters = self._shelf.names()
        self._on_change()

    def _leave(self, name: str) -> None:
        if name:
            self._shelf.leave(name, time.monotonic())

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        del self._loads[name]
        error = None if task.cancelled() else task.exception()  # it may be that nobody waits for it
        if task.cancelled() or error is not None:
            resident = self._shelf.residents.get(name)
            if resident is not None and not resident.is_held:
                self._shelf.gone(name)
        if error is not None and not isinstance(error, AdapterNotLoaded):
            logger.error("a load failed in a new way", exc_info=error, extra={"fields": {"adapter": name}})


def _tidy(why: str) -> str:
    """For the middle of a sentence that ends with a full stop of its own."""
    return why.rstrip(". ")


def _not_loaded(adapter: Adapter, why: str, retry_after: float) -> AdapterNotLoaded:
    return AdapterNotLoaded(
        f"The adapter `{adapter.name}` could not be loaded: {_tidy(why)}.", retry_after=max(1.0, retry_after)
    )
