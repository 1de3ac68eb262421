"""What one load generator does, as a value: it can be divided among several processes, which run it together."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from typing import Protocol, Self

from loadtests.client import Target
from loadtests.drive import closed_loop, idle_streams, open_loop, paced_streams
from loadtests.prompts import Writer
from loadtests.run import Run
from loadtests.trace import Call

_PATIENCE = 60.0  # seconds until every process has its connections


class Job(Protocol):
    """`pid` is the process under test: one of the load generators watches it."""

    @property
    def size(self) -> int:
        """The most processes it can be divided among."""
        ...

    def share(self, number: int, of: int) -> Self: ...

    async def run(self, ready: Callable[[], None]) -> Run: ...


@dataclass(frozen=True)
class Closed:
    target: Target
    request: bytes
    connections: int
    seconds: float
    warmup: float
    streams: bool
    pid: int | None

    @property
    def size(self) -> int:
        return self.connections

    def share(self, number: int, of: int) -> Self:
        connections = _part(self.connections, number, of)
        return replace(self, connections=connections, pid=None if number else self.pid)

    async def run(self, ready: Callable[[], None]) -> Run:
        return await closed_loop(
            self.target,
            self.request,
            connections=self.connections,
            seconds=self.seconds,
            warmup=self.warmup,
            streams=self.streams,
            pid=self.pid,
            ready=ready,
        )


@dataclass(frozen=True)
class Open:
    target: Target
    request: bytes
    arrivals: tuple[float, ...]
    connections: int
    warmup: float
    streams: bool
    pid: int | None

    @property
    def size(self) -> int:
        return min(self.connections, len(self.arrivals))

    def share(self, number: int, of: int) -> Self:
        connections = _part(self.connections, number, of)
        arrivals = self.arrivals[number::of]  # together they are what one process would have sent
        return replace(self, connections=connections, arrivals=arrivals, pid=None if number else self.pid)

    async def run(self, ready: Callable[[], None]) -> Run:
        return await open_loop(
            self.target,
            self.request,
            self.arrivals,
            connections=self.connections,
            streams=self.streams,
            gaps=self.streams,
            warmup=self.warmup,
            pid=self.pid,
            ready=ready,
        )


@dataclass(frozen=True)
class Replay:
    writer: Writer
    calls: tuple[Call, ...]
    connections: int
    warmup: float
    pid: int | None

    @property
    def size(self) -> int:
        return min(self.connections, len(self.calls))

    def share(self, number: int, of: int) -> Self:
        connections = _part(self.connections, number, of)
        return replace(self, connections=connections, calls=self.calls[number::of], pid=None if number else self.pid)

    async def run(self, ready: Callable[[], None]) -> Run:
        streams = self.writer.stream
        return await open_loop(
            self.writer.target,
            lambda number: self.writer.request(self.calls[number]),
            [call.at for call in self.calls],
            connections=self.connections,
            streams=streams,
            gaps=streams,
            usage=True,
            warmup=self.warmup,
            pid=self.pid,
            ready=ready,
        )


@dataclass(frozen=True)
class Paced:
    target: Target
    request: bytes
    streams: int
    seconds: float
    warmup: float
    pid: int | None

    @property
    def size(self) -> int:
        return self.streams

    def share(self, number: int, of: int) -> Self:
        return replace(self, streams=_part(self.streams, number, of), pid=None if number else self.pid)

    async def run(self, ready: Callable[[], None]) -> Run:
        return await paced_streams(
            self.target,
            self.request,
            streams=self.streams,
            seconds=self.seconds,
            settle=self.warmup,
            pid=self.pid,
            ready=ready,
        )


@dataclass(frozen=True)
class Idle:
    target: Target
    request: bytes
    streams: int
    seconds: float
    pid: int | None

    @property
    def size(self) -> int:
        return self.streams

    def share(self, number: int, of: int) -> Self:
        return replace(self, streams=_part(self.streams, number, of), pid=None if number else self.pid)

    async def run(self, ready: Callable[[], None]) -> Run:
        return await idle_streams(
            self.target, self.request, streams=self.streams, hold=self.seconds, pid=self.pid, ready=ready
        )


def _part(total: int, number: int, of: int) -> int:
    return total // of + (number < total % of)


def run_job(job: Job, processes: int = 1) -> Run:
    """Runs it in this process, or divided among several; what they saw is one Run."""
    if not 1 <= processes <= job.size:
        raise ValueError(f"this load can be divided among 1 to {job.size} processes, not {processes}")
    if processes == 1:
        return _run(job, lambda: None)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    children: list[BaseProcess] = []
    ends: list[Connection] = []
    try:
        for number in range(processes):
            ours, theirs = context.Pipe(duplex=False)
            child = context.Process(target=_child, args=(job.share(number, processes), barrier, theirs), daemon=True)
            child.start()
            theirs.close()  # so that a child that dies is seen
            children.append(child)
            ends.append(ours)
        return Run.merged([_received(end) for end in ends])
    finally:
        for child in children:
            if child.exitcode is None:
                child.terminate()
            child.join()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: the load generator must not be what is measured."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("uvloop").new_event_loop
    return None


def _run(job: Job, ready: Callable[[], None]) -> Run:
    """Garbage is collected before a measurement, not within it: a run makes a bounded amount."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(job.run(ready))
    finally:
        gc.enable()


def _child(job: Job, barrier: Barrier, end: Connection) -> None:
    try:
        end.send(_run(job, lambda: _meet(barrier)))
    except Exception as error:
        barrier.abort()
        end.send(f"{type(error).__name__}: {error}")


def _meet(barrier: Barrier) -> None:
    barrier.wait(_PATIENCE)


def _received(end: Connection) -> Run:
    try:
        received: Run | str = end.recv()
    except EOFError:
        received = "it died"
    if isinstance(received, str):
        raise RuntimeError(f"a load generator failed: {received}")
    return received
