"""The adapters of the whole fleet: who is to hold what, kept so, and brought where a request needs it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from itertools import islice

from gateway.engines.dialect import PlacesAdapters
from gateway.errors import AdapterNotLoaded, GatewayError
from gateway.fleet.adapter_files import Versions
from gateway.fleet.backend import Backend
from gateway.fleet.placer import OnMove, Placer
from gateway.fleet.probes import Prober
from gateway.routing.placement import Placement, Shelf, engine_name
from gateway.table import Adapter, Model, Table

logger = logging.getLogger("tollgate.fleet")

TICK_SECONDS = 0.5
REVIEW_SECONDS = 1.0  # between two looks at the files
MOST_PRELOADED = 4  # at a time, of one placement

Served = tuple[str, str]


class Adapters:
    """One per fleet. `apply` may come before `start` and outside an event loop."""

    def __init__(self, on_change: Callable[[], None], on_move: OnMove) -> None:
        self._on_change = on_change
        self._on_move = on_move
        self._versions = Versions()
        self._models: Mapping[str, Model] = {}
        self._wanted: dict[str, dict[str, str]] = {}  # model -> adapter -> the engine's name; the shelves share them
        self._placements: dict[Served, Placement] = {}
        self._backends: Collection[Backend] = ()
        self._placers: dict[Backend, Placer] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Task[None]] = set()

    def apply(self, table: Table, backends: Collection[Backend]) -> None:
        """Takes over a configuration."""
        self._models = table.models
        self._backends = backends
        for gone in self._wanted.keys() - table.models.keys():
            del self._wanted[gone]
        self._name()
        served: set[Served] = set()
        for backend in backends:
            worker = backend.worker
            if isinstance(backend.dialect, PlacesAdapters) and (worker.max_loras or backend.shelf is not None):
                served.add((worker.model, worker.version))
                if backend.shelf is None:
                    backend.shelf = Shelf(worker.max_loras, self._wanted[worker.model])
                backend.shelf.room = worker.max_loras
                backend.shelf.wanted = self._wanted[worker.model]
                backend.shelf.placement = self._placements.setdefault((worker.model, worker.version), Placement())
        for key in self._placements.keys() - served:
            del self._placements[key]
        self.members_changed()
        self._refresh()

    def attach(self, backend: Backend, prober: Prober) -> None:
        """The worker can be spoken to."""
        if backend.shelf is not None and isinstance(backend.dialect, PlacesAdapters) and backend not in self._placers:
            self._placers[backend] = Placer(
                backend, backend.shelf, backend.dialect, prober, self._find_name, self._on_change, self._on_move
            )

    def detach(self, backend: Backend) -> None:
        placer = self._placers.pop(backend, None)
        if placer is not None:
            task = asyncio.create_task(placer.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def start(self) -> None:
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._again_and_again(TICK_SECONDS, self._tick), name="place adapters"),
                asyncio.create_task(self._again_and_again(REVIEW_SECONDS, self._review), name="watch adapters' files"),
            ]

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(
            *tasks, *self._closing, *(one.close() for one in self._placers.values()), return_exceptions=True
        )
        self._placers.clear()

    async def bring(self, backend: Backend, adapter: str, within: float, may_leave: Callable[[], bool]) -> str:
        """Waits until the worker has the adapter; the engine's name for it. It stays until `leave` is called on the
        worker's shelf with that name. Raises `AdapterNotLoaded` or `Overloaded`; the first also when the worker can not
        be reached meanwhile and the caller `may_leave` it for another."""
        placer = self._placers.get(backend)
        model = self._models.get(backend.worker.model)
        spec = None if model is None else model.adapters.get(adapter)
        if placer is None or spec is None:
            raise AdapterNotLoaded(f"The adapter `{adapter}` is not served any more.", retry_after=1.0)
        return await placer.bring(spec, within, may_leave)

    def lost(self, backend: Backend, name: str, asked_at: float) -> None:
        """The engine did not know the adapter, asked at a time of the monotonic clock."""
        if backend.shelf is not None:
            backend.shelf.lost(name, asked_at)
            backend.adapters = backend.shelf.names()

    def members_changed(self) -> None:
        """Workers have come or gone."""
        members: dict[int, dict[str, Shelf]] = {id(placement): {} for placement in self._placements.values()}
        for backend in self._backends:
            shelf = backend.shelf
            if shelf is None or shelf.placement is None or shelf.room <= len(shelf.fixed):
                continue
            if backend.up and not backend.draining and not backend.silent:
                members[id(shelf.placement)][backend.worker.name] = shelf
        for placement in self._placements.values():
            placement.renew(members[id(placement)])

    def _name(self) -> None:
        """Writes down what each adapter is to be called, as far as its version is known."""
        for model in self._models.values():
            wanted = self._wanted.setdefault(model.name, {})
            for gone in wanted.keys() - model.adapters.keys():
                del wanted[gone]
            for adapter in model.adapters.values():
                version = self._versions.known(adapter)
                wanted[adapter.name] = engine_name(model.name, adapter.name, version) if version else ""

    async def _find_name(self, model: str, adapter: Adapter) -> str:
        """What the engine is to call it, once its version is found out."""
        name = engine_name(model, adapter.name, await self._versions.find(adapter))
        now = self._models.get(model)
        if now is not None and now.adapters.get(adapter.name) is adapter:  # it may have been configured anew meanwhile
            wanted = self._wanted[model]
            if wanted.get(adapter.name) != name:
                wanted[adapter.name] = name
                self._refresh()  # a worker may have it already
        return name

    def _refresh(self) -> None:
        for backend in self._backends:
            if backend.shelf is not None:
                backend.adapters = backend.shelf.names()

    async def _tick(self) -> None:
        now = time.monotonic()
        await self._identify()
        for backend in self._placers:
            shelf = backend.shelf
            assert shelf is not None
            for adapter in shelf.recover(now):
                if shelf.placement is not None:
                    shelf.placement.forget(adapter)
        self.members_changed()
        for (name, _), placement in self._placements.items():
            if name in self._models:
                placement.observe(_under_way(placement), TICK_SECONDS)
                await self._preload(self._models[name], placement)
        for backend, placer in self._placers.items():
            if backend.up:
                _tidy(backend, placer)

    async def _identify(self) -> None:
        """Finds out the versions of adapters that workers hold already."""
        found = False
        for backend in list(self._placers):
            shelf, model = backend.shelf, self._models.get(backend.worker.model)
            if shelf is None or model is None:
                continue
            for resident in list(shelf.residents.values()):
                adapter = model.adapters.get(resident.adapter)
                if adapter is not None and not self._versions.known(adapter):
                    await self._versions.find(adapter)
                    found = True
        if found:
            self._name()
            self._refresh()

    async def _preload(self, model: Model, placement: Placement) -> None:
        """Loads what is in demand at more homes than have it, what has a new version, and, where there is room for
        all adapters of the model, all of them: none of their requests then waits for a load."""
        members = placement.members
        if not members:
            return
        sought = [model.adapters[name] for name in placement.in_demand() if name in model.adapters]
        if len(model.adapters) <= min(shelf.room - len(shelf.fixed) for shelf in members.values()):
            sought += model.adapters.values()
        else:
            sought += [model.adapters[name] for name in _outdated(members) if name in model.adapters]
        due = ((adapter, shelf) for adapter in sought for shelf in placement.homes(adapter.name))
        missing = ((adapter, shelf) for adapter, shelf in due if adapter.name not in shelf.names())
        by_shelf = {id(backend.shelf): placer for backend, placer in self._placers.items()}
        for adapter, shelf in islice(list(missing), MOST_PRELOADED):
            placer = by_shelf.get(id(shelf))
            if placer is not None:
                placer.start(adapter, await self._find_name(model.name, adapter))

    async def _review(self) -> None:
        if await self._versions.review(self._models):
            self._name()
            self._refresh()
            self._on_change()

    async def _again_and_again(self, pause: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(pause)
            try:
                await work()
            except GatewayError:
                continue
            except Exception:  # what is wrong with one adapter must not leave the others where they are
                logger.exception("adapters could not be looked after")


def _under_way(placement: Placement) -> dict[str, int]:
    """Requests that use each adapter or wait for it."""
    found: dict[str, int] = {}
    for shelf in placement.members.values():
        for name, count in shelf.using.items():
            resident = shelf.residents.get(name)
            if resident is not None:
                found[resident.adapter] = found.get(resident.adapter, 0) + count
    return found


def _outdated(members: Mapping[str, Shelf]) -> set[str]:
    """Adapters of which a worker holds a version that is not the wanted one."""
    return {one.adapter for shelf in members.values() for one in shelf.residents.values() if not shelf.is_wanted(one)}


def _tidy(backend: Backend, placer: Placer) -> None:
    """Unloads what nobody wants any more, and what is more than there is room for."""
    shelf = backend.shelf
    assert shelf is not None
    for resident in list(shelf.residents.values()):
        if not shelf.is_wanted(resident):
            placer.unload(resident.name)
    if shelf.free < 0 and (victim := shelf.victim()) is not None:
        placer.unload(victim.name)
