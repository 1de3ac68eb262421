"""All workers: by name, and by what they serve; kept in step with the configuration."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from random import Random

from gateway.engines.dialect import TellsLoad
from gateway.fleet import ramp
from gateway.fleet.adapters import Adapters
from gateway.fleet.backend import Backend, Serving
from gateway.fleet.books import NO_BOOKS, Books
from gateway.fleet.discovery import Discovery, Resolve, stands_for_many, system_resolver
from gateway.fleet.expansion import expand
from gateway.fleet.gauge import Gauge
from gateway.fleet.placer import OnMove
from gateway.fleet.probes import Clients, Prober
from gateway.fleet.watch import Watch
from gateway.routing import outliers
from gateway.routing.account import forget_rates
from gateway.routing.types import NOT_PROBED
from gateway.table import Table, Timeout, Worker

logger = logging.getLogger("tollgate.fleet")

RETIRED_POLL_SECONDS = 0.1
REVIEW_SECONDS = 1.0  # between two looks for workers that fail more than their siblings


class Fleet:
    """The backends of one configuration after another.

    `make_backend` gives a new worker its connections and account; what is seen of workers goes into the `books`, and
    `on_move` hears of every load and unload of an adapter that was tried. The first `apply` may come before `start` and
    outside an event loop; until then nothing is probed and nothing is up.
    """

    def __init__(
        self,
        make_backend: Callable[[Worker], Backend],
        books: Books = NO_BOOKS,
        *,
        random: Random | None = None,
        resolve: Resolve = system_resolver,
        on_move: OnMove = lambda load, model, outcome: None,
    ) -> None:
        self._make_backend = make_backend
        self._books = books
        self._random = random or Random()
        self._table: Table | None = None
        self._resolve = resolve
        self._discoveries: dict[str, Discovery] = {}  # by the configured worker's name
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._drained: frozenset[str] = frozenset()
        self._backends: dict[str, Backend] = {}
        self._serving = Serving()
        self.views = self._serving.views  # compiled, and bound once: every request asks
        self._clients: Clients | None = None
        self._watches: dict[str, tuple[Watch, asyncio.Task[None]]] = {}
        self._gauges: dict[str, tuple[Gauge, asyncio.Task[None]]] = {}
        self._retired: set[asyncio.Task[None]] = set()
        self._reviews: list[asyncio.Task[None]] = []
        self._has_looked = False  # once at each of its first workers
        self._changed = asyncio.Event()
        self.adapters = Adapters(self._notify, on_move)

    def backends(self) -> Collection[Backend]:
        """All of them, in the order of the configuration; those found stand where their configured one does."""
        return self._backends.values()

    def workers(self) -> Mapping[str, Worker]:
        """The same, as the ledger knows them."""
        return {name: backend.worker for name, backend in self._backends.items()}

    def discoveries(self) -> Mapping[str, Discovery]:
        """Of the configured workers that stand for several, by name."""
        return self._discoveries

    def apply(self, table: Table) -> None:
        """Takes over a configuration: what is unchanged keeps its state, what is gone finishes its requests.

        All or nothing: when a worker's backend cannot be made, everything stays as it was.
        """
        discoveries = {
            name: self._discovery(worker) for name, worker in table.workers.items() if stands_for_many(worker)
        }
        self._arrange(table, discoveries)
        for name in [name for name in self._looking if discoveries.get(name) is not self._discoveries.get(name)]:
            self._looking.pop(name).cancel()
        self._discoveries = discoveries
        if self._clients is not None:
            self._look_for_all()

    def _arrange(self, table: Table, discoveries: Mapping[str, Discovery]) -> None:
        """Has a backend for each worker of the table, and for those found."""
        old = self._backends
        workers, warnings = expand(table.workers, {name: one.behind for name, one in discoveries.items()})
        backends = {name: self._backend(worker, old.get(name)) for name, worker in workers.items()}
        for name, backend in backends.items():
            backend.worker = workers[name]
            backend.draining = name in self._drained
            if backend.draining and name not in old:
                logger.warning("a worker comes drained: undrain it to use it", extra={"fields": {"worker": name}})
        patience = (
            max([Timeout().total, *(route.timeout.total for route in self._table.routes)]) if self._table else 0.0
        )
        for name, discovery in discoveries.items():
            discovery.warn(warnings[name])
        self._table = table
        self._backends = backends
        self._serving.siblings = _by_what_they_serve(backends)
        self.adapters.apply(table, backends.values())
        for name, backend in old.items():
            if backends.get(name) is not backend:
                self.adapters.detach(backend)
                self._unwatch(name)
                self._retire(backend, patience)
        if self._clients is not None:
            self._watch_all(self._clients, table)
        for backend in backends.values():
            if backend.queue.waiting:  # its limit may have been raised
                backend.let_in(time.monotonic())
        self._notify()

    async def start(self) -> None:
        """Begins to probe, and to look for outliers."""
        if self._clients is None:
            self._clients = Clients()
            self._reviews = [
                asyncio.create_task(self._review_often(), name="review the workers"),
                asyncio.create_task(self._ramp_often(), name="warm the workers up"),
            ]
            if self._table is not None:
                self._watch_all(self._clients, self._table)
                self._look_for_all()
            self.adapters.start()

    async def stop(self) -> None:
        """Ends all probes, reads the workers a last time and closes all connections that carry no request."""
        tasks = [task for _, task in self._watches.values()] + [task for _, task in self._gauges.values()]
        tasks += [*self._retired, *self._reviews, *self._looking.values()]
        self._reviews = []
        self._looking.clear()
        gauges = [gauge for gauge, _ in self._gauges.values()]
        self._watches.clear()
        self._gauges.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.adapters.stop()
        await asyncio.gather(*(gauge.end() for gauge in gauges), return_exceptions=True)
        for backend in self._backends.values():
            await backend.pool.close()
        clients, self._clients = self._clients, None
        if clients is not None:
            await clients.close()

    def review(self, now: float) -> None:
        """Ejects workers that fail far more often than those that serve the same, and forgets how fast those were that
        have not been asked for long."""
        for backend in self._backends.values():
            forget_rates(backend, now)
        for (_, version), siblings in self._serving.siblings.items():
            if version is None or len(siblings) == 1:
                continue
            well = [backend for backend in siblings if backend.up and not backend.draining]
            for place in outliers.look([backend.standing for backend in well], now):
                backend = well[place]
                seconds = backend.standing.ejected_until - now
                fields = {"worker": backend.worker.name, "for_seconds": round(seconds, 1)}
                logger.warning("worker ejected", extra={"fields": fields})

    def drain(self, name: str) -> Backend:
        """Gives the worker no new requests; KeyError when there is none of that name."""
        return self._set_draining(name, True)

    def undrain(self, name: str) -> Backend | None:
        """None for one that is drained and not here; KeyError when neither is so."""
        if name in self._drained and name not in self._backends:
            self._drained -= {name}
            return None
        return self._set_draining(name, False)

    @property
    def drained(self) -> frozenset[str]:
        """The names that are drained, those included of which there is no worker here."""
        return self._drained

    def report_failure(self, backend: Backend, why: str) -> None:
        """A request could not reach this worker: no other is sent there until a probe gets through."""
        watch, _ = self._watches.get(backend.worker.name, (None, None))
        if watch is not None and watch.backend is backend:
            watch.lost(why)

    async def first_look(self, seconds: float) -> None:
        """Waits, at most that long, until it is known of every worker whether it takes requests."""

        def known() -> bool:
            return all(one.has_looked for one in self._discoveries.values()) and all(
                one.up or one.why_down != NOT_PROBED for one in self.backends()
            )

        await self.wait_until(known, seconds)

    async def wait_until(self, is_so: Callable[[], bool], seconds: float) -> bool:
        """Waits for the fleet to change until `is_so` or `seconds` are over; whether it is so."""
        try:
            async with asyncio.timeout(seconds):
                while not is_so():
                    await self._changed.wait()
        except TimeoutError:
            return is_so()
        return True

    async def _review_often(self) -> None:
        while True:
            await asyncio.sleep(REVIEW_SECONDS)
            self.review(time.monotonic())

    async def _ramp_often(self) -> None:
        while True:
            await asyncio.sleep(ramp.STEP_SECONDS)
            serving = self._serving.siblings
            ramp.step((members for (_, version), members in serving.items() if version is not None), time.monotonic())

    def _backend(self, worker: Worker, old: Backend | None) -> Backend:
        if old is not None and _place(old.worker) == _place(worker):
            return old
        return self._make_backend(worker)

    def _discovery(self, worker: Worker) -> Discovery:
        """A new address may be mistyped: until a look there succeeds, those of the old one stay, unless what they are
        to serve or the key they are asked with has changed too."""
        known = self._discoveries.get(worker.name)
        before = None if self._table is None else self._table.workers.get(worker.name)
        is_alike = before is not None and _place(before)[1:] == _place(worker)[1:]
        if known is not None and known.url == worker.url and (is_alike or known.has_its_own):
            return known
        kept = known.behind if known is not None and is_alike else None
        return Discovery(worker.name, worker.url, self._found, self._random, self._resolve, kept)

    def _found(self) -> None:
        if self._table is not None:
            self._arrange(self._table, self._discoveries)

    def _look_for_all(self) -> None:
        for name, discovery in self._discoveries.items():
            if name not in self._looking:
                self._looking[name] = asyncio.create_task(discovery.run(), name=f"look for {name}")

    def keep_drained(self, names: Collection[str]) -> None:
        """Drains these workers, those that are still to come included, and no other."""
        self._drained = frozenset(names)
        for name in self._backends:
            self._mark(name, name in self._drained)

    def _set_draining(self, name: str, draining: bool) -> Backend:
        backend = self._mark(name, draining)
        self._drained = self._drained | {name} if draining else self._drained - {name}
        return backend

    def _mark(self, name: str, draining: bool) -> Backend:
        backend = self._backends[name]
        if backend.draining != draining:
            backend.draining = draining
            logger.info("worker draining" if draining else "worker undrained", extra={"fields": {"worker": name}})
            backend.let_in(time.monotonic())
            self._notify()
        return backend

    def _watch_all(self, clients: Clients, table: Table) -> None:
        clients.retain({worker.ca for worker in table.workers.values()})
        for name, backend in self._backends.items():
            model, pace = table.models[backend.worker.model], table.settings.probe
            self.adapters.attach(backend, Prober(clients.trusting(backend.worker.ca), backend, backend.dialect))
            if name in self._watches:
                self._watches[name][0].renew(model, pace)
                if name in self._gauges:
                    self._gauges[name][0].every = pace.load
                continue
            prober = Prober(clients.trusting(backend.worker.ca), backend, backend.dialect)
            watch = Watch(backend, prober, model, pace, self._notify, self._random, self._books, cold=self._has_looked)
            self._watches[name] = watch, asyncio.create_task(watch.run(), name=f"watch {name}")
            if isinstance(backend.dialect, TellsLoad):
                gauge = Gauge(
                    backend,
                    backend.dialect,
                    pace.load,
                    self._random,
                    watch.lost,
                    books=self._books,
                    read_every=table.settings.metering.readings,
                )
                self._gauges[name] = gauge, asyncio.create_task(gauge.run(), name=f"poll {name}")
        self._has_looked = True

    def _unwatch(self, name: str) -> None:
        watched, gauge = self._watches.pop(name, None), self._gauges.pop(name, None)
        if watched is not None:
            watched[1].cancel()
        if gauge is not None:
            gauge[1].cancel()

    def _retire(self, backend: Backend, patience: float) -> None:
        logger.info("worker removed", extra={"fields": {"worker": backend.worker.name, "in_flight": backend.inflight}})
        backend.up, backend.why_down = False, "no longer configured"
        if backend.prefixes is not None:
            backend.prefixes.leave()
        task = asyncio.create_task(_close_when_idle(backend, patience), name=f"retire {backend.worker.name}")
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    def _notify(self) -> None:
        self.adapters.members_changed()
        self._changed.set()
        self._changed = asyncio.Event()


def _place(worker: Worker) -> tuple[object, ...]:
    """What makes a worker the one it is; the rest (price, GPU, limits) may change around it."""
    return worker.url, worker.engine, worker.api_key, worker.ca, worker.model, worker.version, worker.serves_as


def _by_what_they_serve(backends: Mapping[str, Backend]) -> dict[tuple[str, str | None], tuple[Backend, ...]]:
    serving: dict[tuple[str, str | None], list[Backend]] = {}
    for backend in backends.values():
        model, version = backend.worker.model, backend.worker.version
        serving.setdefault((model, version), []).append(backend)
        serving.setdefault((model, None), []).append(backend)
    return {served: tuple(members) for served, members in serving.items()}


async def _close_when_idle(backend: Backend, patience: float) -> None:
    """Requests end by their own deadline, so `patience` is only reached by a fault."""
    try:
        async with asyncio.timeout(patience):
            while backend.inflight > 0:  # noqa: ASYNC110 - the hot path counts in a plain integer and tells nobody
                await asyncio.sleep(RETIRED_POLL_SECONDS)
    except TimeoutError:
        logger.warning("removed worker never became idle", extra={"fields": {"worker": backend.worker.name}})
    finally:
        await backend.pool.close()
