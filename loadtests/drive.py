"""The ways to load a target: closed loop, open loop, paced streams, idle streams.

Each returns a Run. Every one is bounded: in connections, in time, and in what it remembers. `ready` is called when all
connections stand, before the first request: several load generators wait for each other there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from time import perf_counter

from loadtests import procstat
from loadtests.client import DONE, USAGE_BYTES, Connection, Exchange, Target, connect, reported_tokens
from loadtests.connections import Connections
from loadtests.run import Run

GRACE = 20.0  # seconds a run may take beyond its plan before what is missing counts as an error
_UNANSWERED = "no answer in time"


def _at_once() -> None:
    """Nobody to wait for."""


class _Meter:
    """CPU and memory of the process under test, between two moments."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._before: procstat.Usage | None = None
        self._after: procstat.Usage | None = None

    def start(self) -> None:
        self._before = procstat.usage(self._pid) if self._pid else None

    def stop(self) -> None:
        self._after = procstat.usage(self._pid) if self._pid else None

    def enter(self, run: Run) -> Run:
        if self._before and self._after:
            run.cpu_seconds = self._after.cpu_seconds - self._before.cpu_seconds
            run.rss_before, run.rss_after = self._before.rss_bytes, self._after.rss_bytes
            run.own_rss_after = self._after.own_rss_bytes
        return run


class _Tally:
    """Collects the exchanges that count: those that were due from `since` on. Their times are told from `begin`."""

    def __init__(self, *, streams: bool) -> None:
        self.streams = streams
        self.since = self.begin = 0.0
        self.run = Run(0.0)

    def add(self, exchange: Exchange) -> None:
        if exchange.intended < self.since:
            return
        run, error = self.run, exchange.error
        if error is None and self.streams and not exchange.tail.endswith(DONE):
            error = "stream without [DONE]"
        if error is not None:
            run.errors[error] += 1
            return
        run.requests += 1
        run.events += exchange.events
        if len(exchange.tail) > len(DONE):
            run.tokens.update(reported_tokens(exchange.tail))
        run.starts.append(exchange.intended - self.begin)
        run.latencies.append(exchange.ended - exchange.intended)
        run.firsts.append(exchange.first - exchange.intended)
        if exchange.event_times:
            # Events that arrive in one read have one time: a gap lies between two reads.
            run.gaps.extend(b - a for a, b in pairwise(exchange.event_times) if b > a)


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
    ready: Callable[[], None] = _at_once,
) -> Run:
    """Each connection sends its next request when the last is answered: how much fits through."""
    loop = asyncio.get_running_loop()
    tally = _Tally(streams=streams)
    over = asyncio.Event()
    alive = connections
    end = 0.0

    def finished(connection: Connection, exchange: Exchange) -> None:
        now = exchange.ended
        if tally.begin <= now <= end:
            tally.add(exchange)
        if now >= end:
            retire()
        elif connection.is_open:
            connection.start(Exchange(now), request)
        else:
            opened.replace(connection, lambda fresh: fresh.start(Exchange(now), request))

    def retire() -> None:
        nonlocal alive
        alive -= 1
        if not alive:
            over.set()

    def failed(error: str) -> None:
        tally.run.errors[error] += 1
        retire()

    opened = Connections(target, finished, failed)
    events_before = events_after = 0
    meter = _Meter(pid)

    def begins() -> None:
        nonlocal events_before
        events_before = opened.events
        meter.start()

    try:
        await opened.open(connections)
        ready()
        tally.begin = perf_counter() + warmup
        end = tally.begin + seconds
        loop.call_later(warmup, begins)
        measured = asyncio.Event()
        loop.call_later(warmup + seconds, measured.set)
        for connection in opened.idle:
            connection.start(Exchange(perf_counter()), request)
        await measured.wait()
        meter.stop()
        events_after = opened.events
        try:
            async with asyncio.timeout(grace):
                await over.wait()
        except TimeoutError:
            tally.run.errors[_UNANSWERED] += alive
    finally:
        opened.leave()
    run = tally.run
    run.seconds = seconds
    run.events = events_after - events_before  # those of streams still under way count too
    return meter.enter(run)


async def open_loop(
    target: Target,
    request: bytes | Callable[[int], bytes],
    arrivals: Sequence[float],
    *,
    connections: int = 256,
    streams: bool = False,
    gaps: bool = False,
    usage: bool = False,
    warmup: float = 0.0,
    pid: int | None = None,
    grace: float = GRACE,
    ready: Callable[[], None] = _at_once,
) -> Run:
    """Requests start when they are due, answered or not, and their latency counts from then.

    `request` is the same for all or made for each by its number. At most `connections` are under way; one that is due
    while all are taken waits, and its waiting counts. What is due within the warm-up is sent and not counted. `gaps`
    keeps the times between the events of each stream, `usage` adds up the tokens the answers report.
    """
    tally = _Tally(streams=streams)
    waiting: deque[tuple[float, int]] = deque()
    remaining = len(arrivals)
    over = asyncio.Event()

    def made(number: int) -> bytes:
        return request if isinstance(request, bytes) else request(number)

    def finished(connection: Connection, exchange: Exchange) -> None:
        tally.add(exchange)
        answered()
        if waiting:
            intended, number = waiting.popleft()
            begin_on(connection, intended, made(number))
        else:
            opened.rest(connection)

    def answered() -> None:
        nonlocal remaining
        remaining -= 1
        if not remaining:
            over.set()

    def failed(error: str) -> None:
        tally.run.errors[error] += 1
        answered()
        if waiting:
            arrive(*waiting.popleft())

    def begin_on(connection: Connection, intended: float, data: bytes) -> None:
        exchange = Exchange(intended, event_times=[] if gaps else None, keep=USAGE_BYTES if usage else len(DONE))
        if connection.is_fresh:
            connection.start(exchange, data)
        else:
            opened.replace(connection, lambda fresh: fresh.start(exchange, data))

    def arrive(intended: float, number: int, data: bytes | None = None) -> None:
        if opened.idle:
            begin_on(opened.idle.pop(), intended, data or made(number))
        else:
            waiting.append((intended, number))  # and is made again: what waits may be many, and large

    opened = Connections(target, finished, failed)
    meter = _Meter(pid)
    metering: asyncio.TimerHandle | None = None
    begin = perf_counter()
    try:
        await opened.open(min(connections, len(arrivals)))
        ready()
        begin = perf_counter() + 0.05
        tally.begin = tally.since = begin + warmup
        metering = asyncio.get_running_loop().call_later(tally.since - perf_counter(), meter.start)
        for number, arrival in enumerate(arrivals):
            data = made(number)
            if (early := begin + arrival - perf_counter()) > 0:
                await asyncio.sleep(early)
            arrive(begin + arrival, number, data)
        if remaining:
            async with asyncio.timeout(grace):
                await over.wait()
    except TimeoutError:
        tally.run.errors[_UNANSWERED] += remaining
    finally:
        if metering is not None:
            metering.cancel()
        meter.stop()
        tally.run.seconds = max(0.0, perf_counter() - begin - warmup)
        opened.leave()
    return meter.enter(tally.run)


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
    ready: Callable[[], None] = _at_once,
) -> Run:
    """Many open streams whose worker sets the pace, measured in a window in which all of them flow.

    The streams must outlast ramp + settle + seconds. They begin spread over the ramp, so their events do not march in
    step, and are left at the end: leaving is not part of the measurement.
    """
    opened = _Streams(target, request)
    meter = _Meter(pid)
    ready()
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
    for exchange in opened.exchanges:
        inside = [at for at in exchange.event_times or () if begin <= at <= end]
        run.events += len(inside)
        run.gaps.extend(later - earlier for earlier, later in pairwise(inside))
    return meter.enter(run)


async def idle_streams(
    target: Target,
    request: bytes,
    *,
    streams: int,
    hold: float = 1.0,
    pid: int | None = None,
    grace: float = GRACE,
    ready: Callable[[], None] = _at_once,
) -> Run:
    """Streams that have begun and then say nothing: what an open stream costs in memory."""
    opened = _Streams(target, request)
    meter = _Meter(pid)
    ready()
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
        run.firsts.extend(exchange.first - exchange.started for exchange in begun)
        return run


def _leave(connections: Sequence[Connection]) -> None:
    for connection in connections:
        connection.abort()
