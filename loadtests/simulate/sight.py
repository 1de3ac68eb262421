"""What a gateway knows of the workers when it decides: by its own account, by polls of their gauges, by what other
gateways tell it, or, as no gateway can, by looking into them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from loadtests.simulate.blocks import Index
from loadtests.simulate.engine import Worker
from loadtests.simulate.traffic import Request
from loadtests.trace import BLOCK

Load = Literal[
    "live",  # the workers' state at this very moment, all that was dispatched to them included
    "poll",  # the last poll
    "own",  # what this gateway dispatched, and what others told it
    "both",  # the last poll, and what was dispatched since
]
LOADS: tuple[Load, ...] = ("live", "poll", "own", "both")
AWAY_SECONDS = 5.0  # for which a worker is not asked that refused a connection, unless a poll finds it back


class Reading(NamedTuple):
    """A worker's gauges. `pending` is uncached prompt tokens not yet computed."""

    at: float
    up: bool
    waiting: int
    running: int
    kv_usage: float
    pending: float


class Delta(NamedTuple):
    """What one gateway tells the others. `uncached` is the tokens that become pending by it, or cease to be."""

    kind: Literal["dispatched", "first", "ended"]
    at: float
    worker: int
    request: Request
    uncached: int = 0


class Sight(NamedTuple):
    """What a rule decides on; lists are by worker. `able` are those that may be chosen."""

    prompt: int  # tokens
    blocks: int  # of the prompt
    able: Sequence[int]
    matched: Sequence[int]  # blocks
    uncached: Sequence[int]  # tokens
    pending: Sequence[float]  # uncached tokens before it
    queued: Sequence[int]  # requests without a first token
    inflight: Sequence[int]  # requests without an end
    rates: Sequence[float]  # prompt tokens a second, as they are believed to be


def gauges(worker: Worker, now: float) -> Reading:
    """As a poll finds it, `worker` being at `now`."""
    if not worker.alive:
        return Reading(now, False, 0, 0, 0.0, 0.0)
    pending = worker.queued_tokens + (worker.filling.left if worker.filling is not None else 0.0)
    return Reading(now, True, len(worker.waiting), worker.running, worker.kv_usage, pending)


class Books:
    """One gateway's; with `live` load all gateways keep the same one, and look into the `workers`."""

    def __init__(self, count: int, load: Load, blocks: int, rates: Sequence[float], workers: Sequence[Worker]) -> None:
        self.load: Load = load
        self.indices = [Index(blocks) for _ in range(count)]
        self.rates = rates
        self._workers = workers
        self._open: list[dict[int, tuple[int, float]]] = [{} for _ in range(count)]  # number -> uncached, dispatched at
        self._owed = [0] * count  # sum of the uncached tokens in it
        self._inflight = [0] * count
        self._began = [0.0] * count  # when the prompt before came to its first token
        self._free_at = [0.0] * count  # when what was polled and dispatched since will have been computed
        self._since = [0] * count  # requests dispatched since the poll
        self._readings = [Reading(-math.inf, True, 0, 0, 0.0, 0.0)] * count
        self._away_until = [0.0] * count

    def sight(self, request: Request, tried: Sequence[int], now: float) -> Sight:
        count = len(self.indices)
        able = [i for i in range(count) if self._up(i, now) and i not in tried]
        if not able:
            able = [i for i in range(count) if i not in tried]
        blocks, prompt = request.blocks, request.prompt
        matched = [index.matched(blocks) for index in self.indices]
        return Sight(
            prompt,
            len(blocks),
            able,
            matched,
            [prompt - max(0, min(count * BLOCK, prompt - 1)) for count in matched],
            [self._pending(i, now) for i in range(count)],
            [self._queued(i) for i in range(count)],
            [self._busy(i) for i in range(count)],
            self.rates,
        )

    def dispatched(self, worker: int, request: Request, now: float, at: float) -> int:
        """Here or, as heard now, by another `at` an earlier time. Gives the tokens the cache is taken not to have."""
        index = self.indices[worker]
        uncached = request.prompt - max(0, min(index.matched(request.blocks) * BLOCK, request.prompt - 1))
        index.use(request.blocks)
        self._open[worker][request.number] = (uncached, at)
        self._owed[worker] += uncached
        self._inflight[worker] += 1
        if at > self._readings[worker].at:
            self._free_at[worker] = max(self._free_at[worker], now) + uncached / self.rates[worker]
            self._since[worker] += 1
        return uncached

    def first(self, worker: int, request: Request, now: float) -> None:
        opened = self._open[worker].pop(request.number, None)
        if opened is not None:
            self._owed[worker] -= opened[0]
            self._began[worker] = now

    def ended(self, worker: int, request: Request, now: float) -> None:
        self.first(worker, request, now)
        self._inflight[worker] -= 1

    def failed(self, worker: int, request: Request, now: float) -> None:
        self.ended(worker, request, now)
        self.indices[worker] = Index(self.indices[worker].capacity)
        self._away_until[worker] = now + AWAY_SECONDS

    def polled(self, worker: int, reading: Reading) -> None:
        self._readings[worker] = reading
        self._free_at[worker] = reading.at + reading.pending / self.rates[worker]
        self._since[worker] = 0
        self._away_until[worker] = 0.0 if reading.up else math.inf

    def _up(self, worker: int, now: float) -> bool:
        return self._workers[worker].alive if self.load == "live" else now >= self._away_until[worker]

    def _pending(self, worker: int, now: float) -> float:
        """Prompt tokens; what was computed of the prompt at the head is taken off."""
        if self.load == "poll":
            return self._readings[worker].pending
        if self.load == "both":
            return max(0.0, self._free_at[worker] - now) * self.rates[worker]
        opened = self._open[worker]
        if not opened:
            return 0.0
        if self.load == "live":
            return self._owed[worker] - self._workers[worker].done_of_head(now)
        uncached, at = next(iter(opened.values()))
        done = (now - max(at, self._began[worker])) * self.rates[worker]
        return self._owed[worker] - min(done, uncached)

    def _queued(self, worker: int) -> int:
        reading = self._readings[worker]
        if self.load == "poll":
            return reading.waiting
        return reading.waiting + self._since[worker] if self.load == "both" else len(self._open[worker])

    def _busy(self, worker: int) -> int:
        reading = self._readings[worker]
        if self.load == "poll":
            return reading.waiting + reading.running
        if self.load == "both":
            return reading.waiting + reading.running + self._since[worker]
        return self._inflight[worker]
