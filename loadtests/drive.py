"""The ways to load a target: closed loop, open loop, paced streams, idle streams.

Each returns a Run. Every one is bounded: in connections, in time, and in what it remembers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from time import perf_counter

from loadtests.client import DONE, Connection, Exchange, Target, connect
from loadtests.procstat import Usage, usage
from loadtests.stats import Latency

GRACE = 20.0  # seconds a run may take beyond its plan before what is missing counts as an error
_UNANSWERED = "no answer in time"


@dataclass(slots=True)
class Run:
    """One measurement of one target."""

    seconds: float
    requests: int = 0
    events: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    latency: Latency = field(default_factory=lambda: Latency.of(()))
    first: Latency = field(default_factory=lambda: Latency.of(()))  # time to the first byte of the body
    gap: Latency = field(default_factory=lambda: Latency.of(()))  # between the events of a paced stream
    cpu_seconds: float | None = None  # of the process under test
    rss_before: int | None = None
    rss_after: int | None = None

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0

    @property
    def error_share(self) -> float:
        bad = self.errors.total()
        return bad / (bad + self.requests) if bad else 0.0

    def document(self) -> dict[str, object]:
        document: dict[str, object] = asdict(self)
        document["errors"] = dict(self.errors)
        document["requests_per_second"] = self.requests_per_second
        document["events_per_second"] = self.events_per_second
        return document


class _Meter:
    """CPU and memory of the process under test, between two moments."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._before: Usage | None = None
        self._after: Usage | None = None

    def start(self) -> None:
        self._before = usage(self._pid) if self._pid else None

    def stop(self) -> None:
        self._after = usage(self._pid) if self._pid else None

    def enter(self, run: Run) -> Run:
        if self._before and self._after:
            run.cpu_seconds = self._after.cpu_seconds - self._before.cpu_seconds
            run.rss_before, run.rss_after = self._before.rss_bytes, self._after.rss_bytes
        return run


class _Tally:
    """Collects the exchanges that count."""

    def __init__(self, *, streams: bool) -> None:
        self.streams = streams
        self.errors: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.firsts: list[float] = []

    def add(self, exchange: Exchange) -> None:
        error = exchange.error
        if error is None and self.streams and exchange.tail != DONE:
            error = "stream without [DONE]"
        if error is not None:
            self.errors[error] += 1
            return
        self.latencies.append(exchange.ended - exchange.intended)
        self.firsts.append(exchange.first - exchange.intended)

    def run(self, seconds: float) -> Run:
        latency, first = Latency.of(self.latencies), Latency.of(self.firsts)
        return Run(seconds, len(self.latencies), errors=self.errors, latency=latency, first=first)


async def closed_loop(
    target: Target,
    request: bytes,
    *,
    connections: int,
    seconds: float,
    warmup: float = 0.5,
    streams: bool = False,
    pid: int | None = None,
    grace: float = GRACE,
) -> Run:
    """Each connection sends its next request when the last is answered: how much fits through."""
    loop = asyncio.get_running_loop()
    tally = _Tally(streams=streams)
    opened: list[Connection] = []
    over = asyncio.Event()
    alive = connections
    begin = end = 0.0

    def finished(connection: Connection, exchange: Exchange) -> None:
        nonlocal alive
        now = exchange.ended
        if begin <= now <= end:
            tally.add(exchange)
        if now < end and connection.is_open:
            connection.start(Exchange(now), request)
            return
        alive -= 1
        if not alive:
            over.set()

    events_before = events_after = 0
    meter = _Meter(pid)

    def begins() -> None:
        nonlocal events_before
        events_before = sum(connection.events for connection in opened)
        meter.start()

    try:
        opened.extend([await connect(target, finished) for _ in range(connections)])
        begin = perf_counter() + warmup
        end = begin + seconds
        loop.call_later(warmup, begins)
        measured = asyncio.Event()
        loop.call_later(warmup + seconds, measured.set)
        for connection in opened:
            connection.start(Exchange(perf_counter()), request)
        await measured.wait()
        meter.stop()
        events_after = sum(connection.events for connection in opened)
        try:
            async with asyncio.timeout(grace):
                await over.wait()
        except TimeoutError:
            tally.errors[_UNANSWERED] += alive
    finally:
        _leave(opened)
    run = tally.run(seconds)
    run.events = events_after - events_before  # those of streams still under way count too
    return meter.enter(run)


async def open_loop(
    target: Target,
    request: bytes,
    arrivals: Sequence[float],
    *,
    connections: int = 256,
    streams: bool = False,
    pid: int | None = None,
    grace: float = GRACE,
) -> Run:
    """Requests start when they are due, answered or not, and their latency counts from then.

    At most `connections` are under way; one that is due while all are taken waits, and its waiting counts.
    """
    tally = _Tally(streams=streams)
    idle: list[Connection] = []
    waiting: deque[float] = deque()
    opened: list[Connection] = []
    remaining = len(arrivals)
    over = asyncio.Event()

    def finished(connection: Connection, exchange: Exchange) -> None:
        nonlocal remaining
        tally.add(exchange)
        remaining -= 1
        if not remaining:
            over.set()
        if not connection.is_open:
            return
        if waiting:
            connection.start(Exchange(waiting.popleft()), request)
        else:
            idle.append(connection)

    def arrive(intended: float) -> None:
        while idle:
            connection = idle.pop()
            if connection.is_open:
                connection.start(Exchange(intended), request)
                return
        waiting.append(intended)

    meter = _Meter(pid)
    begin = perf_counter()
    try:
        opened.extend([await connect(target, finished) for _ in range(min(connections, len(arrivals)))])
        idle.extend(opened)
        meter.start()
        begin = perf_counter() + 0.05
        for arrival in arrivals:
            if (early := begin + arrival - perf_counter()) > 0:
                await asyncio.sleep(early)
            arrive(begin + arrival)
        if remaining:
            async with asyncio.timeout(grace):
                await over.wait()
    except TimeoutError:
        tally.errors[_UNANSWERED] += remaining
    finally:
        meter.stop()
        seconds = perf_counter() - begin
        _leave(opened)
    return meter.enter(tally.run(seconds))


async def paced_streams(
    target: Target,
    request: bytes,
    *,
    streams: int,
    ramp: float = 1.0,
    settle: float = 0.5,
    seconds: float = 2.0,
    pid: int | None = None,
    grace: float = GRACE,
) -> Run:
    """Many open streams whose worker sets the pace, measured in a window in which all of them flow.

    The streams must outlast ramp + settle + seconds. They begin spread over the ramp, so their events do not march in
    step, and are left at the end: leaving is not part of the measurement.
    """
    opened = _Streams(target, request)
    meter = _Meter(pid)
    try:
        await opened.open(streams, ramp, grace)
        await asyncio.sleep(settle)
        meter.start()
        begin = perf_counter()
        await asyncio.sleep(seconds)
        end = perf_counter()
        meter.stop()
    finally:
        opened.leave()
    run = opened.run(end - begin)
    gaps: list[float] = []
    for exchange in opened.exchanges:
        inside = [at for at in exchange.event_times or () if begin <= at <= end]
        run.events += len(inside)
        gaps += [later - earlier for earlier, later in pairwise(inside)]
    run.gap = Latency.of(gaps)
    return meter.enter(run)


async def idle_streams(
    target: Target,
    request: bytes,
    *,
    streams: int,
    hold: float = 1.0,
    pid: int | None = None,
    grace: float = GRACE,
) -> Run:
    """Streams that have begun and then say nothing: what an open stream costs in memory."""
    opened = _Streams(target, request)
    meter = _Meter(pid)
    meter.start()
    begin = perf_counter()
    try:
        await opened.open(streams, 0.0, grace)
        await asyncio.sleep(hold)
        meter.stop()
    finally:
        opened.leave()
    return meter.enter(opened.run(perf_counter() - begin))


class _Streams:
    """Many streams, each on a connection of its own."""

    def __init__(self, target: Target, request: bytes) -> None:
        self.exchanges: list[Exchange] = []
        self._target, self._request = target, request
        self._connections: list[Connection] = []
        self._lost: list[Exchange] = []
        self._begun = 0
        self._wanted = 0
        self._all_begun = asyncio.Event()

    async def open(self, streams: int, ramp: float, grace: float) -> None:
        """Returns when each has said its first word; those that will not within the grace show in the run."""
        self._wanted = streams
        start = perf_counter()
        for number in range(streams):
            connection = await connect(self._target, lambda connection, exchange: self._lost.append(exchange))
            exchange = Exchange(perf_counter(), event_times=[], began=self._began)
            self._connections.append(connection)
            self.exchanges.append(exchange)
            connection.start(exchange, self._request)
            if (early := start + ramp * (number + 1) / streams - perf_counter()) > 0:
                await asyncio.sleep(early)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._all_begun.wait()

    def _began(self) -> None:
        self._begun += 1
        if self._begun == self._wanted:
            self._all_begun.set()

    def leave(self) -> None:
        _leave(self._connections)

    def run(self, seconds: float) -> Run:
        begun = [exchange for exchange in self.exchanges if exchange.first]
        run = Run(seconds, requests=sum(1 for exchange in begun if not exchange.ended))
        run.errors.update(exchange.error or "stream ended early" for exchange in self._lost)
        silent = sum(1 for exchange in self.exchanges if not exchange.first and not exchange.ended)
        if silent:
            run.errors["stream never began"] = silent
        run.first = Latency.of([exchange.first - exchange.started for exchange in begun])
        return run


def _leave(connections: Sequence[Connection]) -> None:
    for connection in connections:
        connection.abort()
