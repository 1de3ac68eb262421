"""What is measured: each figure is one way to load a target and one number read off the run."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from loadtests.client import Target, chat_request
from loadtests.drive import closed_loop, idle_streams, open_loop, paced_streams
from loadtests.peers import Peer
from loadtests.peers.base import MODEL
from loadtests.procstat import descriptor_limit
from loadtests.run import Run
from loadtests.schedule import poisson

ANSWER_TOKENS = 16
STREAM_TOKENS = 100
PACE = 0.02
LONG_STREAM_TOKENS = 1000  # outlasts every measurement
SLOW_PACE = 3.0  # below every relay's limit for a silent stream
SPARE_DESCRIPTORS = 500  # listeners, logs, the ledger, idle connections to the worker
OPEN_LOOP_RATE = 1000.0
BASE_SEED = 20


@dataclass(frozen=True, slots=True)
class Effort:
    """How much time a run of the bench may take."""

    repetitions: int
    seconds: float  # per measurement
    streams: int  # paced and idle
    many: int  # streams open at once in one process


FULL = Effort(repetitions=3, seconds=2.5, streams=500, many=9000)
QUICK = Effort(repetitions=2, seconds=1.0, streams=500, many=9000)


@dataclass(frozen=True, slots=True)
class Number:
    """A value read off a run, in the unit the table shows."""

    key: str
    title: str
    unit: str
    read: Callable[[Run], float]
    better: Literal["higher", "lower"]


_LIMITS = ("tollgate", "tollgate-unlimited", "tollgate-redis")
_LEDGER = ("tollgate", "tollgate-settler-apart", "tollgate-unledgered")


_VARIANTS = (*_LIMITS[1:], *_LEDGER[1:])  # of this gateway, which are beside it in figures of their own


def _of_one_process(peer: Peer) -> bool:
    return peer.processes == 1 and peer.name not in _VARIANTS


@dataclass(frozen=True, slots=True)
class Figure:
    key: str
    title: str
    measure: Callable[[Target, int | None, Effort, int], Awaitable[Run]]  # target, pid, effort, repetition
    numbers: tuple[Number, ...]
    behaviour: dict[str, object] = field(default_factory=dict[str, object])  # what the worker is told beforehand
    includes: Callable[[Peer], bool] = _of_one_process
    complaint: Callable[[Run, Effort], str | None] = lambda run, effort: None  # why a run says nothing
    obstacle: Callable[[Effort], str | None] = lambda effort: None  # why this machine can not measure it
    once: bool = False  # a repetition would measure memory that the first has already taken
    of_requests: bool = False  # its CPU is that of its requests, with what is done for them afterwards


async def _closed(target: Target, pid: int | None, effort: Effort, connections: int) -> Run:
    request = chat_request(target, MODEL, stream=False, tokens=ANSWER_TOKENS)
    return await closed_loop(target, request, connections=connections, seconds=effort.seconds, pid=pid)


async def _throughput(target: Target, pid: int | None, effort: Effort, repetition: int) -> Run:
    return await _closed(target, pid, effort, 32)


async def _alone(target: Target, pid: int | None, effort: Effort, repetition: int) -> Run:
    return await _closed(target, pid, effort, 1)


async def _twice(target: Target, pid: int | None, effort: Effort, repetition: int) -> Run:
    return await _closed(target, pid, effort, 64)


async def _open(target: Target, pid: int | None, effort: Effort, repetition: int) -> Run:
    request = chat_request(target, MODEL, stream=False, tokens=ANSWER_TOKENS)
    arrivals = poisson(OPEN_LOOP_RATE, effort.seconds, BASE_SEED + repetition)
    return await open_loop(target, request, arrivals, pid=pid)


async def _burst_streams(target: Target, pid: int | None, effort: Effort, repetition: int) -> Run:
    request = chat_request(target, MODEL, stream=True, tokens=STREAM_TOKENS)
    return await closed_loop(target, request, connections=32, seconds=effort.seconds, streams=True, pid=pid)


async def _paced(target: Target, pid: int | None, effort: Effort, repetition: int) -> Run:
    request = chat_request(target, MODEL, stream=True, tokens=LONG_STREAM_TOKENS)
    return await paced_streams(target, request, streams=effort.streams, seconds=effort.seconds, pid=pid)


async def _many(target: Target, pid: int | None, effort: Effort, repetition: int) -> Run:
    request = chat_request(target, MODEL, stream=True, tokens=LONG_STREAM_TOKENS)
    return await idle_streams(target, request, streams=effort.many, hold=SLOW_PACE, pid=pid)


async def _idle(target: Target, pid: int | None, effort: Effort, repetition: int) -> Run:
    request = chat_request(target, MODEL, stream=True, tokens=LONG_STREAM_TOKENS)
    return await idle_streams(target, request, streams=effort.streams, pid=pid)


def _cpu_per(run: Run, what: int) -> float:
    return run.cpu_seconds / what * 1e6 if run.cpu_seconds is not None and what else math.nan


def _growth(run: Run) -> float:
    if run.rss_before is None or run.rss_after is None:
        return math.nan
    return (run.rss_after - run.rss_before) / 1e6


def _resident(run: Run) -> float:
    return math.nan if run.own_rss_after is None else run.own_rss_after / 1e6


def _falls_behind(run: Run, effort: Effort) -> str | None:
    """Events that arrive late arrive together, which makes each of them look cheap."""
    wanted = effort.streams / PACE
    if run.events_per_second < 0.95 * wanted:
        return f"only {run.events_per_second:,.0f} of {wanted:,.0f} events/s came through"
    return None


def _some_are_missing(run: Run, effort: Effort) -> str | None:
    missing = effort.many - run.requests
    return f"{missing:,} of {effort.many:,} streams were not open" if missing else None


def _too_few_descriptors(effort: Effort) -> str | None:
    """A relay needs two for every stream."""
    needed = 2 * effort.many + SPARE_DESCRIPTORS
    limit = descriptor_limit()
    return f"needs {needed:,} descriptors in one process, the limit here is {limit:,}" if limit < needed else None


def _carries_streams(peer: Peer) -> bool:
    return peer.streams > 0 and _of_one_process(peer)


def _is_ours(peer: Peer) -> bool:
    return peer.name == "tollgate"


def _is_ours_of_any_size(peer: Peer) -> bool:
    return peer.name.startswith("tollgate") and peer.name not in _VARIANTS


def _relays_alone(peer: Peer) -> bool:
    """With nothing but the relay on its core, where that can be had."""
    return _of_one_process(peer) or peer.name == "tollgate-settler-apart"


def _shows_limits(peer: Peer) -> bool:
    return peer.name in _LIMITS


def _shows_ledger(peer: Peer) -> bool:
    return peer.name in _LEDGER


_THROUGHPUT = (
    Number("requests_per_second", "requests/s", "", lambda run: run.requests_per_second, "higher"),
    Number("cpu_per_request", "CPU per request", "µs", lambda run: _cpu_per(run, run.requests), "lower"),
)

FIGURES = (
    Figure(
        "throughput",
        "non-stream, 32 connections",
        _throughput,
        _THROUGHPUT,
        includes=_relays_alone,
        of_requests=True,
    ),
    Figure(
        "limits",
        "limits and a budget, or none, 32 connections",
        _throughput,
        _THROUGHPUT,
        includes=_shows_limits,
        of_requests=True,
    ),
    Figure(
        "ledger",
        "a ledger, or none, 32 connections",
        _throughput,
        _THROUGHPUT,
        includes=_shows_ledger,
        of_requests=True,
    ),
    Figure(
        "idle",
        "500 idle streams",
        _idle,
        (Number("memory_growth", "memory growth", "MB", _growth, "lower"),),
        {"tokens": LONG_STREAM_TOKENS, "pace": 600.0},
        _carries_streams,
        once=True,
    ),
    Figure(
        "alone",
        "non-stream, 1 connection",
        _alone,
        (
            Number("p50", "p50", "ms", lambda run: run.latency.p50 * 1e3, "lower"),
            Number("p99", "p99", "ms", lambda run: run.latency.p99 * 1e3, "lower"),
        ),
    ),
    Figure(
        "open",
        "open loop, 1,000 requests/s",
        _open,
        (
            Number("p50", "p50", "ms", lambda run: run.latency.p50 * 1e3, "lower"),
            Number("p99", "p99", "ms", lambda run: run.latency.p99 * 1e3, "lower"),
        ),
        includes=_carries_streams,
    ),
    Figure(
        "burst",
        "unpaced streams, 32 connections",
        _burst_streams,
        (Number("events_per_second", "events/s", "", lambda run: run.events_per_second, "higher"),),
        {"tokens": STREAM_TOKENS},
    ),
    Figure(
        "paced",
        "500 streams of 50 events/s",
        _paced,
        (
            Number("cpu_per_event", "CPU per event", "µs", lambda run: _cpu_per(run, run.events), "lower"),
            Number("gap_p99", "gap p99", "ms", lambda run: run.gap.p99 * 1e3, "lower"),
        ),
        {"tokens": LONG_STREAM_TOKENS, "pace": PACE},
        _carries_streams,
        _falls_behind,
    ),
    Figure(
        "many",
        "9,000 open streams",
        _many,
        (Number("resident", "memory of the process", "MB", _resident, "lower"),),
        {"tokens": LONG_STREAM_TOKENS, "pace": SLOW_PACE},
        _is_ours,
        _some_are_missing,
        _too_few_descriptors,
        once=True,
    ),
    Figure(
        "processes",
        "one process and two, 64 connections",
        _twice,
        _THROUGHPUT,
        includes=_is_ours_of_any_size,
        of_requests=True,
    ),
)
