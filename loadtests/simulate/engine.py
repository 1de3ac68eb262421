"""One worker: prompts first come first served, answers side by side, a KV cache with a limit, a prefix cache, adapters.

A step takes `chunk` prompt tokens through prefill, gives every running answer its next token, and lasts as long as
both one after the other: chunk / prefill rate, plus an interval that grows with the batch. A worker with nothing to
decode prefills at its full rate, one with nothing to prefill decodes at the interval. Between two events nothing
changes but the count of steps, so a run costs time by the request and not by the step.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from heapq import heappop, heappush
from typing import Literal, NamedTuple

from loadtests.simulate.blocks import Cache
from loadtests.simulate.traffic import Request
from loadtests.trace import BLOCK

Event = Literal["first", "end"]


class Engine(NamedTuple):
    """What a worker can do. `decode` False leaves answers out: a request is done at its first token."""

    prefill: float = 5_500.0  # uncached prompt tokens a second
    chunk: int = 2_048  # of them in a step
    interval: float = 0.02  # seconds between the tokens of an answer alone
    interval_each: float = 0.0004  # more for every other answer of the batch
    batch: int = 256  # requests at most in prefill or decode
    blocks: int = 1_600  # of KV cache
    adapters: int = 4  # that fit at once
    adapter_load: float = 2.0  # seconds
    decode: bool = True


class Job:
    """A request on a worker. Times are None until they come."""

    __slots__ = ("cached", "end", "expected", "first", "left", "nameless", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.expected = 0  # tokens to prefill, as far as could be told when it came
        self.cached = 0  # tokens that the prefix cache had
        self.left = 0.0  # tokens still to prefill
        self.nameless = 0  # blocks of KV cache beside those of the prompt
        self.first: float | None = None
        self.end: float | None = None


class Worker:
    """Its clock is moved by `advance`; `next` is when something will have happened by itself."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.slowness = 1.0  # every step takes that many times longer
        self.alive = True
        self.now = 0.0
        self.cache = Cache(engine.blocks)
        self.waiting: deque[Job] = deque()
        self.queued_tokens = 0  # that the waiting ones are expected to prefill
        self.filling: Job | None = None
        self.busy = 0.0  # seconds in which it computed
        self.prefilled = 0.0  # tokens
        self.decoded = 0  # tokens of answers that are complete
        self.loads = 0  # of adapters
        self._decoding: list[tuple[float, int, Job]] = []  # by the step at which each ends
        self._steps = 0.0
        self._loading = 0.0  # seconds until the adapter is there that the first in line needs
        self._loaded: OrderedDict[str, int] = OrderedDict()  # adapter -> who uses it; the longest unused first

    # --- what its gauges say

    @property
    def running(self) -> int:
        return len(self._decoding) + (self.filling is not None)

    @property
    def kv_usage(self) -> float:
        return self.cache.in_use / self.cache.capacity

    def done_of_head(self, now: float) -> float:
        """Prompt tokens that have been computed of the one that is being prefilled."""
        head = self.filling
        if head is None or self._loading:
            return 0.0
        whole = head.request.prompt - head.cached
        return whole - max(0.0, head.left - (now - self.now) * self._fill_rate())

    # --- what happens to it

    def add(self, request: Request) -> Job | None:
        """Queues it; None when it could never fit into the KV cache."""
        job = Job(request)
        if self._blocks_of(request) + len(request.blocks) > self.cache.capacity:
            return None
        job.expected = self._uncached(request)
        self.queued_tokens += job.expected
        self.waiting.append(job)
        self._admit()
        return job

    def die(self) -> list[Job]:
        """Everything it had is lost; gives the jobs."""
        lost = [*([self.filling] if self.filling else []), *self.waiting, *(job for *_, job in sorted(self._decoding))]
        self.alive = False
        self.waiting.clear()
        self.queued_tokens = 0
        self._decoding.clear()
        self._loaded.clear()
        self.filling, self._loading = None, 0.0
        self.cache = Cache(self.engine.blocks)
        return lost

    @property
    def next(self) -> float:
        """When the next first token or end comes, or an adapter is loaded, in seconds; infinity when none will."""
        soonest = math.inf
        if self._loading:
            soonest = self._loading
        elif self.filling is not None:
            soonest = self.filling.left / self._fill_rate()
        if self._decoding:
            soonest = min(soonest, max(0.0, self._decoding[0][0] - self._steps) * self._step_seconds())
        return self.now + soonest

    def advance(self, now: float) -> list[tuple[Job, Event]]:
        """Moves its clock on; `now` is no later than `next`. Gives what happened at `now`."""
        passed = now - self.now
        at_next = now >= self.next
        if passed > 0.0 and (self._decoding or self.filling is not None):
            self._pass(passed)
        self.now = now
        return self._happens() if at_next else []

    def _pass(self, seconds: float) -> None:
        steps = seconds / self._step_seconds()
        head = self.filling
        if self._loading:
            self._loading = max(0.0, self._loading - seconds)
        elif head is not None:
            done = min(head.left, seconds * self._fill_rate())
            head.left -= done
            self.prefilled += done
        if self._decoding:
            self._steps += steps
        self.busy += seconds

    def _happens(self) -> list[tuple[Job, Event]]:
        happened: list[tuple[Job, Event]] = []
        head = self.filling
        if head is not None:
            if self._loading:
                if self._loading < 1e-9:
                    self._loading = 0.0
            elif head.left < 1e-6:
                self.prefilled += head.left
                self.filling = None
                head.first = self.now
                happened.append((head, "first"))
                if self.engine.decode and head.request.output > 1:
                    heappush(self._decoding, (self._steps + head.request.output - 1, head.request.number, head))
                else:
                    happened.append((self._end(head), "end"))
        while self._decoding and self._decoding[0][0] - self._steps < 1e-6:
            happened.append((self._end(heappop(self._decoding)[-1]), "end"))
        self._admit()
        return happened

    def _end(self, job: Job) -> Job:
        job.end = self.now
        self.decoded += job.request.output
        self.cache.give_back(job.request.blocks, job.nameless)
        if job.request.adapter:
            self._loaded[job.request.adapter] -= 1
        return job

    def _admit(self) -> None:
        """Begins with the next prompt when there is room for it."""
        if self.filling is not None or not self.waiting or self.running >= self.engine.batch:
            return
        job = self.waiting[0]
        request = job.request
        if request.adapter and not self._may_load(request.adapter):
            return
        uncached = self._uncached(request)
        job.nameless = self._blocks_of(request)
        if not self.cache.take(request.blocks, job.nameless):
            return
        if request.adapter:
            self._load(request.adapter)
        self.waiting.popleft()
        self.queued_tokens -= job.expected
        self.filling = job
        job.cached = request.prompt - uncached
        job.left = float(uncached)

    def _uncached(self, request: Request) -> int:
        """Prompt tokens that are not in the cache now; the last one is always computed."""
        return request.prompt - max(0, min(self.cache.matched(request.blocks) * BLOCK, request.prompt - 1))

    def _blocks_of(self, request: Request) -> int:
        """Blocks that it needs beside those that its prompt names."""
        whole = request.prompt + (request.output if self.engine.decode else 0)
        return max(0, -(-whole // BLOCK) - len(request.blocks))

    def _may_load(self, adapter: str) -> bool:
        loaded = self._loaded
        return adapter in loaded or len(loaded) < self.engine.adapters or not all(loaded.values())

    def _load(self, adapter: str) -> None:
        loaded = self._loaded
        if adapter not in loaded:
            if len(loaded) >= self.engine.adapters:
                del loaded[next(name for name, users in loaded.items() if not users)]
            loaded[adapter] = 0
            self.loads += 1
            self._loading = self.engine.adapter_load
        loaded[adapter] += 1
        loaded.move_to_end(adapter)

    def _step_seconds(self) -> float:
        engine = self.engine
        fill = engine.chunk / engine.prefill if self.filling is not None and not self._loading else 0.0
        batch = len(self._decoding)
        decode = engine.interval + engine.interval_each * (batch - 1) if batch else 0.0
        return (fill + decode or 1.0) * self.slowness

    def _fill_rate(self) -> float:
        return self.engine.chunk / self._step_seconds()
