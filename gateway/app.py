"""The composition root: the only file that names every concrete class.

client ── ClientConnection ──┬── Service ── Pool ── worker         the data plane
          (uvicorn's parser) └── FastAPI                           the control plane
                                    Fleet, Watcher, Ledger, Limiter and Metrics stand behind both
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn
import uvloop
from uvicorn.server import ServerState

from gateway import readings
from gateway.api import create_control_plane
from gateway.books_host import BooksHost, BooksUnavailable
from gateway.cache import open_store as open_cache
from gateway.cache.flight import Flights
from gateway.child import LEAVING, SERVING, Inheritance, Line, end_with_parent, inherited, listeners_of, obey
from gateway.compiled import is_compiled
from gateway.config import ConfigError, Watcher, load
from gateway.described import Description, describe
from gateway.descriptors import clients_within, raise_limit
from gateway.downstream.connection import ClientConnection
from gateway.downstream.limits import MIB, Intake, Limits
from gateway.downstream.server import Server
from gateway.engines import DIALECTS
from gateway.explain.record import SCHEMA, Document
from gateway.explain.ring import Ring
from gateway.fleet.added import Added, open_adapter_store
from gateway.fleet.backend import Backend
from gateway.fleet.drains import Drains, open_drain_store
from gateway.fleet.registry import Fleet
from gateway.fleet.sharing import Sharing
from gateway.keyring.opening import open_key_store
from gateway.keyring.ring import Keyring
from gateway.ledger.journal.writer import Journal, fresh_name
from gateway.ledger.location import NONE, is_sqlite
from gateway.ledger.opening import open_books, open_store
from gateway.ledger.pricing import Meter
from gateway.ledger.store import LedgerError
from gateway.ledger.writer import Ledger
from gateway.listening import listen, listen_for_many
from gateway.loghandler import JsonHandler
from gateway.logs import LogWriter
from gateway.processes import Parent
from gateway.protocol.endpoints import ENDPOINTS
from gateway.reconciling import Pace, Reconciling
from gateway.routing.prefix import PrefixIndex
from gateway.routing.rates import Kin
from gateway.routing.router import Router
from gateway.serve import Revision, Service
from gateway.settle import Settlement
from gateway.settler.host import SettlerHost
from gateway.settler.orders import Orders
from gateway.spans import SpansUnavailable, open_spans
from gateway.state.deltas import Deltas, LocalDeltas, RedisDeltas
from gateway.state.hosted import HostedLimits
from gateway.state.limits import RedisLimits
from gateway.stopping import Stop
from gateway.table import Table, Worker
from gateway.telemetry import Metrics
from gateway.tenancy.keys import Keys
from gateway.tenancy.limiter import MemoryLimiter, OnAlert
from gateway.tenancy.limits import seed_budgets
from gateway.tenancy.shared import SharedLimiter
from gateway.upstream.pool import Pool

logger = logging.getLogger("tollgate")

KEEP_ALIVE_SECONDS = 75  # above what clients keep idle connections for, so that they close them and not we
LAG_SECONDS = 0.25
FIRST_LOOK_SECONDS = 3.0  # for the workers to be found before the first request comes, at most
END_SECONDS = 0.5  # for what runs beside to end, before it is told once more
FLUSH_SECONDS = 4.0  # for the spans to be written at the end, at most
SETTLER_SECONDS = 0.5  # between two looks whether it runs
BOOKS = "limits.sock"  # in that directory, the parent's
_CANNOT_LISTEN = "cannot listen on %s:%d (%s): end what uses that port, or choose another with --port"
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # a directory for what processes share: the library looks there for the counters


class Gateway:
    """One gateway process, put together; `serve` runs it until a signal ends it."""

    def __init__(
        self,
        directory: Path,
        table: Table,
        log: LogWriter,
        limits: Limits | None = None,
        place: str = "",
        settler: SettlerHost | None = None,
        pace: Pace | None = None,
    ) -> None:
        """`place` is the same for a process and for the one that is started in its place, and for no other. `settler`
        is looked after while this process serves; None where somebody else does. `pace` is that of the budgets'
        comparison with the ledger."""
        self.log = log
        self.settler = settler
        self.metrics = Metrics()
        self.ledger = open_ledger(table)
        self._books = None if table.settings.ledger == NONE else open_books(table.settings.ledger)
        endpoint = table.settings.otlp_endpoint
        self.spans = open_spans(endpoint) if endpoint else None
        self.decisions = _decisions(table)
        self.limiter = _limiter(table, place, self._budget_alert)
        self.reconciling = Reconciling(
            self.limiter, self.ledger, self._books, lambda: replace(self.table, workers=self.fleet.workers()), pace
        )
        prefixes = PrefixIndex()
        kins: dict[Hashable, Kin] = {}
        self.fleet = Fleet(
            lambda worker: _backend(worker, prefixes, kins.setdefault(_kind(worker), Kin())),
            self.ledger,
            on_move=self.metrics.moved,
        )
        self.drains = Drains(open_drain_store(table.settings.state, table.settings.ledger), self.fleet)
        self.added = Added(open_adapter_store(table.settings.state, table.settings.ledger), table, self._other_adapters)
        deltas = _deltas(table)
        self.sharing = None if deltas is None else Sharing(self.fleet, deltas, uuid.uuid4().hex)
        self.watcher = Watcher(directory, self.apply, table)
        self.keyring = Keyring(open_key_store(table.settings.state, table.settings.ledger), table, self._let_in)
        self.service = Service(
            revision=Revision(table, Router(table), self.keyring.keys),
            fleet=self.fleet,
            limiter=self.limiter,
            store=open_cache(table.settings.state, table.settings.cache),
            flights=Flights(),
            metrics=self.metrics,
            settlement=Settlement(self.ledger, self.metrics, log, self.spans, self.decisions),
        )
        self.intake = Intake(limits or _limits(table))
        self.draining = False  # on its way out
        self.control_plane = create_control_plane(self)
        for read in (
            lambda: readings.of_workers(self.fleet),
            lambda: readings.of_discovery(self.fleet),
            lambda: readings.of_queue(self.service.racing.room),
            lambda: readings.of_limits(self.limiter, self.table.accounts),
            self.keyring.readings,
            self.drains.readings,
            self.added.readings,
            lambda: readings.of_clients(self.intake),
            lambda: readings.of_ledger(self.ledger, self.table.settings.metering.journal),
            lambda: readings.of_configuration(self.watcher.state),
            lambda: readings.of_log(self.log),
        ):
            self.metrics.watch(read)
        if self.sharing is not None:
            self.metrics.watch(self.sharing.readings)
        self.limiter.retain(table.accounts)
        self._seed_budgets(table)

    @property
    def table(self) -> Table:
        """The configuration in effect."""
        return self.service.revision.table

    @property
    def keys(self) -> Keys:
        """The API keys that are let in."""
        return self.service.revision.keys

    def apply(self, table: Table) -> None:
        """Puts a new configuration into effect, with the adapters that were added by the API; requests under way keep
        the one they started with."""
        written, table = table, self.added.join(table)
        self.limiter.tick(time.time())
        self.limiter.retain(table.accounts)
        self._seed_budgets(table)
        self.fleet.apply(table)
        self.keyring.apply(table)
        self.service.revision = Revision(table, Router(table), self.keyring.keys)
        self.added.written = written
        if self.settler is not None:
            self.settler.revise(Orders.of(table))

    def _other_adapters(self) -> None:
        """Some were added or removed by the API."""
        table = self.added.join(self.added.written)
        self.fleet.apply(table)
        self.service.revision = Revision(table, Router(table), self.keyring.keys)

    def describe(self, what: Description) -> Document:
        """How a request that is only described would be routed now. Raises `GatewayError` where it names nothing."""
        service = self.service
        revision = service.revision
        return describe(what, revision.table, revision.router, self.fleet, service.usual_output_tokens)

    def _seed_budgets(self, table: Table) -> None:
        try:
            seed_budgets(self.limiter, table.tenants.values(), self._spent, time.time())
        except LedgerError as error:  # a tenant whose budget is new starts at nothing spent rather than not at all
            logger.error("budgets could not be read from the ledger: %s", error)

    def _spent(self, tenant: str, since: float) -> int:
        return 0 if self._books is None else self._books.spent(tenant, since)

    def _let_in(self) -> None:
        """The store's keys are others."""
        self.service.revision = replace(self.service.revision, keys=self.keyring.keys)

    async def serve(self, listeners: list[socket.socket], stop: Stop, left: Inheritance | None) -> None:
        """Serves until it is asked to stop, then drains. `left` is what a parent left this process."""
        drain_seconds = self.table.settings.server.drain_seconds
        asked = asyncio.create_task(stop.asked.wait())
        self.fleet.apply(self.table)
        await self.fleet.start()
        background = [
            asyncio.create_task(self.watcher.run(), name="watch the configuration"),
            asyncio.create_task(self._measure_lag(), name="measure the event loop"),
            asyncio.create_task(self.limiter.run(), name="keep the limits' accounts"),
            asyncio.create_task(self.reconciling.run(), name="compare the budgets with the ledger"),
            asyncio.create_task(self.service.spending.run(), name="watch what running requests cost"),
            asyncio.create_task(self.service.settlement.run(), name="checkpoint what runs"),
            asyncio.create_task(self._look_after_settler(), name="look after the settler"),
            looking := asyncio.create_task(self.fleet.first_look(FIRST_LOOK_SECONDS), name="look at the workers"),
        ]
        await asyncio.gather(self.keyring.refresh(), self.drains.look(), self.added.look())
        background.append(asyncio.create_task(self.added.run(), name="follow the added adapters"))
        background.append(asyncio.create_task(self.drains.run(), name="follow the drains"))
        if self.sharing is not None:
            background.append(asyncio.create_task(self.sharing.run(), name="tell other gateways"))
        background.append(asyncio.create_task(self.keyring.run(), name="keep the keys current"))
        await asyncio.wait((looking, asked), return_when=asyncio.FIRST_COMPLETED)
        server = Server(self.connecting(), listeners, self.intake, 0 if left is None else left.slot)
        await server.start()
        host, port = listeners[0].getsockname()[:2]
        fields = {"host": host, "port": port, "config": self.table.revision, "compiled": is_compiled()}
        logger.info("listening", extra={"fields": fields})
        line = None if left is None else Line(socket.socket(fileno=left.line))
        if line is not None:
            obey(line, server)
            line.say(SERVING)
        await asked
        self.draining = True
        if line is not None:
            line.say(LEAVING)
        if cut := await server.drain(drain_seconds, stop.hurried):
            logger.warning("requests were cut off: they took longer than the drain", extra={"fields": {"count": cut}})
        await _end(background)
        await asyncio.gather(
            self.service.store.close(),
            self.limiter.close(),
            self.keyring.close(),
            self.drains.close(),
            self.added.close(),
        )
        if self.sharing is not None:
            await self.sharing.close()
        await self.fleet.stop()
        await self._flush()
        logger.info("stopped")

    def connecting(self) -> Callable[[ServerState], ClientConnection]:
        """What makes the protocol of a client's connection, on the running loop."""
        config = uvicorn.Config(
            self.control_plane,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        config.load()
        paths, loop = frozenset(ENDPOINTS), asyncio.get_running_loop()

        def connect(state: ServerState) -> ClientConnection:
            return ClientConnection(
                config,
                state,
                {},
                loop,
                handler=self.service.handle,
                screen=self.service.screen,
                paths=paths,
                intake=self.intake,
            )

        return connect

    def _budget_alert(self, tenant: str, percent: int, spent: int) -> None:
        self.metrics.budget_alerts.labels(tenant, str(percent)).inc()
        event = "budget used up" if percent == 100 else "budget alert"
        logger.warning(event, extra={"fields": {"tenant": tenant, "percent": percent, "spent_usd": spent / 1e9}})

    async def _flush(self) -> None:
        """Ledger and spans, side by side, as both may wait for somebody who is away."""
        spans, settler = self.spans, self.settler
        if self.decisions is not None:
            self.decisions.close()
        self.ledger.close()
        settled, exported = await asyncio.gather(
            asyncio.to_thread(lambda: settler is None or settler.stop()),
            asyncio.to_thread(lambda: spans is None or spans.close(FLUSH_SECONDS)),
        )
        if not settled:
            logger.warning("the ledger is not complete: the rest stands in the journal, for the next start to settle")
        if not exported:
            logger.error("spans were lost: the collector did not take them in %g s", FLUSH_SECONDS)

    async def _look_after_settler(self) -> None:
        while self.settler is not None:
            await asyncio.sleep(SETTLER_SECONDS)
            self.settler.look_after()

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(LAG_SECONDS)
            self.metrics.loop_lag.set(max(0.0, loop.time() - before - LAG_SECONDS))
            self.metrics.pour()


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels them until they have ended: a library that is just reporting a failure may turn a cancellation into it,
    and who tries again and again has then not heard of it."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=END_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


def run(config_dir: Path, port: int | None, limits: Limits | None = None, pace: Pace | None = None) -> int:
    """`tollgate serve`: 0 after a clean end, 1 when the configuration or the start was refused.

    `limits` of clients are derived from the configuration and the system when left out, `pace` is that of `Gateway`.
    """
    try:
        table = load(config_dir)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")  # there is no log yet
        return 1
    server = table.settings.server
    port = server.port if port is None else port
    left = inherited()
    if server.processes > 1 and left is None:
        return _run_children(config_dir, table, port)
    log = LogWriter(turn=None if left is None else Path(os.environ[SHARED], "log.turn"))
    _log_to(log)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop)
    # What a terminal says to all of its processes is for the parent to hear, where there is one. A process without one
    # has nobody who could take its place, so SIGHUP ends it as well.
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, stop if left is None else signal.SIG_IGN)
    if left is not None:
        end_with_parent(left.parent)
    try:
        listeners = [listen(server.host, port, shared=False)] if left is None else listeners_of(left)
    except OSError as error:
        logger.error(_CANNOT_LISTEN, server.host, port, error.strerror)
        log.close()
        return 1
    try:
        place = _place(port, 0 if left is None else left.slot)
        settler = None if left is not None else settler_of(table)
        if settler is not None:
            settler.start()
        gateway = Gateway(config_dir, table, log, limits, place, settler, pace)
        # What exists now lives as long as the process; requests leave hardly a cycle behind. At the default threshold
        # the collector would walk the young objects of every few requests for nothing: 5 % of all CPU.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(gateway, listeners, stop, left))
        return 0
    except (LedgerError, SpansUnavailable) as error:
        logger.error("%s", error)
        return 1
    finally:
        log.close()


async def _serve(gateway: Gateway, listeners: list[socket.socket], stop: Stop, left: Inheritance | None) -> None:
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(signum) is stop:
            loop.add_signal_handler(signum, stop)  # which wakes a loop that waits
    await gateway.serve(listeners, stop, left)


def _run_children(config_dir: Path, table: Table, port: int) -> int:
    server = table.settings.server
    try:
        listeners = listen_for_many(server.host, port, server.processes)
    except OSError as error:
        sys.stderr.write(_CANNOT_LISTEN % (server.host, port, error.strerror) + "\n")
        return 1
    port = listeners[0].getsockname()[1]
    command = ["-m", "gateway.cli", "serve", "--config", str(config_dir), "--port", str(port)]
    try:
        with tempfile.TemporaryDirectory(prefix="tollgate-") as shared, BooksHost(Path(shared, BOOKS)):
            os.environ[SHARED] = shared
            settler = settler_of(table)
            if settler is None:
                return Parent(command, listeners, server.drain_seconds).run()
            settler.start()
            try:
                return Parent(command, listeners, server.drain_seconds, settler.look_after).run()
            finally:
                settler.stop()
    except (BooksUnavailable, LedgerError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def open_ledger(table: Table) -> Ledger:
    settings = table.settings
    if settings.ledger == NONE:
        return Ledger(None)
    metering = settings.metering
    journal = Journal(metering.journal, fresh_name(), max_bytes=metering.journal_max_bytes)
    return Ledger(journal, refuses=metering.on_full == "refuse")


def _decisions(table: Table) -> Ring | None:
    settings = table.settings.decisions
    if settings.directory is None:
        return None
    try:
        return Ring(settings.directory, settings.max_bytes, SCHEMA)
    except OSError as error:  # requests need not go unserved for it
        logger.error("decisions are not kept, so that no request can be explained: %s", error)
        return None


def settler_of(table: Table) -> SettlerHost | None:
    """The process beside this one, where the configuration wants one here. Raises LedgerError where the ledger is none
    that could ever be written."""
    settings = table.settings
    if settings.ledger == NONE or settings.metering.settler == "external":
        return None
    if is_sqlite(settings.ledger):  # a server that is away need not keep anybody from serving
        open_store(settings.ledger).close()
    return SettlerHost(Orders.of(table))


def _limits(table: Table) -> Limits:
    """Whatever the largest body is, several of them may be on their way at once."""
    largest = table.settings.server.max_body_bytes
    return Limits(
        max_body_bytes=largest,
        max_receiving_bytes=max(256 * MIB, 4 * largest),
        max_connections=clients_within(raise_limit()),
    )


def _kind(worker: Worker) -> Hashable:
    """Workers of one kind should be equally fast. Of hosted endpoints, each is one of its own."""
    apart = worker.url if worker.engine == "openai" else ""
    return worker.model, worker.version, worker.engine, worker.gpu, worker.gpus, apart


def _backend(worker: Worker, prefixes: PrefixIndex, kin: Kin) -> Backend:
    tls = ssl.create_default_context(cadata=worker.ca) if worker.url.startswith("https:") else None
    return Backend(
        worker=worker,
        pool=Pool(worker.url, api_key=worker.api_key, tls=tls),
        dialect=DIALECTS[worker.engine],
        meter=Meter(),
        prefixes=prefixes.enrol(),
        kin=kin,
    )


def _place(port: int, slot: int) -> str:
    """Of a process among all that share their limits. On a port that the system chooses, each is in a new one."""
    return f"{socket.gethostname()}:{port}.{slot}/" if port else ""


def _limiter(table: Table, place: str, on_alert: OnAlert) -> MemoryLimiter:
    state, shared, processes = table.settings.state, os.environ.get(SHARED), table.settings.server.processes
    holder = f"{place}{uuid.uuid4()}"
    if not state.startswith("memory:"):
        return SharedLimiter(RedisLimits.open(state), holder, on_alert, processes)
    if shared is not None and (books := Path(shared, BOOKS)).exists():
        return SharedLimiter(HostedLimits(str(books)), holder, on_alert, processes, store="parent")
    return MemoryLimiter(on_alert)


def _deltas(table: Table) -> Deltas | None:
    """The way to the other gateways; None where there are none."""
    state, shared = table.settings.state, os.environ.get(SHARED)
    if not state.startswith("memory:"):
        return RedisDeltas(state)
    if shared is not None and table.settings.server.processes > 1:
        return LocalDeltas(Path(shared))
    return None


def _log_to(log: LogWriter) -> None:
    root = logging.getLogger()
    root.handlers[:] = [JsonHandler(log)]
    root.setLevel(logging.INFO)
    for noisy in ("uvicorn", "uvicorn.error", "httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
