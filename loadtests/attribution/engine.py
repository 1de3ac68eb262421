"""An engine with a known step time: continuous batching, chunked prefill, a KV cache with a limit, a prefix cache.

It schedules as vLLM does: every step first gives each running request its next token, then spends what is left of the
token budget on prompts, first come first served, and takes in a waiting request when its prompt fits in the KV cache.
When the cache is full the request that came in last is preempted and computed anew. Stretches in which nothing comes,
goes or is prefilled are computed in one go, so a run costs time by the request and not by the step.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple


class Request(NamedTuple):
    """`prefix` names what its prompt begins with, `prefix_tokens` long; equal names are equal text. "" for nothing."""

    at: float
    tenant: int
    prompt: int
    output: int
    prefix: str = ""
    prefix_tokens: int = 0


class Seen(NamedTuple):
    """What a gateway sees of a request. `first` is when its first token came."""

    request: Request
    opened: float
    first: float
    end: float
    cached: int


class Engine(NamedTuple):
    """The step time in seconds: fixed + per new token + per new token x context + per decoded token + per token of
    context that is read; and what bounds a step."""

    fixed: float = 8e-3
    new: float = 3e-5
    attention: float = 5e-10
    out: float = 3e-5
    context: float = 4e-8
    budget: int = 2048  # tokens a step
    slots: int = 128  # running requests
    kv: int = 400_000  # tokens


class Look(NamedTuple):
    """What a reading of the engine's gauges says."""

    at: float
    running: int
    waiting: int
    kv_usage: float


class Run(NamedTuple):
    seen: list[Seen]
    looks: list[Look]
    busy: float  # seconds of steps
    preempted: int


class _Job:
    __slots__ = ("cached", "context", "first", "given", "held", "left", "need", "request", "uses")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.first = math.nan
        self.cached: int | None = None  # tokens the prefix cache had for it when it was first taken in
        self.given = 0  # tokens of the answer
        self.left = request.output
        self.need = 0  # tokens still to prefill
        self.context = 0  # tokens computed
        self.held = 0  # tokens of KV cache it has for itself
        self.uses = False  # the prefix of its name


def run(engine: Engine, requests: Sequence[Request], look_every: float = math.inf) -> Run:
    """Everything until the last answer; `requests` in order of time."""
    return _State(engine, requests, look_every).run()


class _State:
    def __init__(self, engine: Engine, requests: Sequence[Request], look_every: float) -> None:
        self.engine = engine
        self.arrivals = deque(requests)
        self.waiting: deque[_Job] = deque()
        self.decoding: list[_Job] = []
        self.filling: list[_Job] = []
        self.free = engine.kv
        self.prefixes: OrderedDict[str, list[int]] = OrderedDict()  # name -> tokens, users; the longest unused first
        self.now = self.busy = 0.0
        self.preempted = 0
        self.seen: list[Seen] = []
        self.looks: list[Look] = []
        self.look_every = look_every
        self.next_look = 0.0

    def run(self) -> Run:
        while True:
            self._arrive()
            if not (self.waiting or self.decoding or self.filling):
                if not self.arrivals:
                    return Run(self.seen, self.looks, self.busy, self.preempted)
                self._pass_to(self.arrivals[0].at)
                continue
            if self.decoding and not self.filling and not self._may_enter():
                steps = self._free_steps()
                if steps > 1:
                    self._stretch(steps)
                    continue
            self._step()

    def _arrive(self) -> None:
        while self.arrivals and self.arrivals[0].at <= self.now:
            self.waiting.append(_Job(self.arrivals.popleft()))

    def _pass_to(self, until: float, busy: bool = False) -> None:
        while self.next_look <= until:
            if self.next_look >= self.now:
                self.looks.append(
                    Look(
                        self.next_look,
                        len(self.decoding) + len(self.filling),
                        len(self.waiting),
                        1 - self._room() / self.engine.kv,
                    )
                )
            self.next_look += self.look_every
        if busy:
            self.busy += until - self.now
        self.now = until

    # --- memory

    def _room(self) -> int:
        return self.free + sum(tokens for tokens, users in self.prefixes.values() if not users)

    def _take(self, tokens: int) -> bool:
        """KV cache for that many tokens, from prefixes that nobody uses where there is no other."""
        while self.free < tokens:
            unused = next((name for name, (_, users) in self.prefixes.items() if not users), None)
            if unused is None:
                return False
            self.free += self.prefixes.pop(unused)[0]
        self.free -= tokens
        return True

    def _may_enter(self) -> bool:
        if not self.waiting or len(self.decoding) + len(self.filling) >= self.engine.slots:
            return False
        job = self.waiting[0]
        known = self.prefixes.get(job.request.prefix)
        cached = job.request.prefix_tokens if known else 0
        idle = known[0] if known and not known[1] else 0
        return self._room() - idle >= job.request.prompt + job.given - cached

    def _enter(self, job: _Job) -> None:
        request = job.request
        known = self.prefixes.get(request.prefix)
        cached = 0
        if known:
            known[1] += 1
            self.prefixes.move_to_end(request.prefix)
            job.uses = True
            cached = min(request.prefix_tokens, request.prompt - 1)
        if job.cached is None:
            job.cached = cached
        job.need = request.prompt + job.given - cached
        job.context = cached
        job.held = job.need
        taken = self._take(job.need)
        assert taken

    def _leave(self, job: _Job) -> None:
        self.free += job.held
        job.held = job.context = job.need = 0
        if job.uses:
            self.prefixes[job.request.prefix][1] -= 1
            job.uses = False

    def _filled(self, job: _Job) -> None:
        """Its prompt is computed: what it begins with is there for others."""
        request = job.request
        if math.isnan(job.first):
            job.first = self.now
        job.given += 1
        job.left -= 1
        if request.prefix and not job.uses and request.prefix not in self.prefixes:
            self.prefixes[request.prefix] = [request.prefix_tokens, 1]
            job.held -= request.prefix_tokens
            job.uses = True

    # --- time

    def _free_steps(self) -> int:
        """How many steps nothing but decoding happens in, from what is known now."""
        engine, count = self.engine, len(self.decoding)
        steps = min(job.left for job in self.decoding) - 1
        steps = min(steps, self.free // count)
        if self.arrivals and steps > 1:
            per_step = engine.fixed + engine.out * count + engine.context * sum(job.context for job in self.decoding)
            grow = engine.context * count
            wait = self.arrivals[0].at - self.now
            # the first step count k with per_step*k + grow*k*(k-1)/2 >= wait
            half = per_step - grow / 2
            most = wait / per_step if not grow else (math.sqrt(half * half + 2 * grow * max(0.0, wait)) - half) / grow
            steps = min(steps, math.ceil(most))
        return steps

    def _stretch(self, steps: int) -> None:
        engine, count = self.engine, len(self.decoding)
        contexts = sum(job.context for job in self.decoding)
        took = steps * (engine.fixed + engine.out * count + engine.context * contexts)
        took += engine.context * count * steps * (steps - 1) / 2
        self.free -= steps * count
        for job in self.decoding:
            job.context += steps
            job.held += steps
            job.given += steps
            job.left -= steps
        self._pass_to(self.now + took, busy=True)

    def _step(self) -> None:
        engine = self.engine
        took = engine.fixed
        left = engine.budget
        # Every running request gets its next token, as long as there is memory for it.
        decoding = self.decoding
        short = False
        while self.free < len(decoding) and not self._take_for(len(decoding)):
            victim = (self.filling or decoding).pop()
            self.preempted += 1
            self._leave(victim)
            self.waiting.appendleft(victim)
            short = True
        self.free -= len(decoding)
        contexts = 0
        for job in decoding:
            contexts += job.context
            job.context += 1
            job.held += 1
            job.given += 1
            job.left -= 1
        took += engine.out * len(decoding) + engine.context * contexts
        left -= len(decoding)
        while not short and left > 0 and self._may_enter():
            job = self.waiting.popleft()
            self._enter(job)
            self.filling.append(job)
            left -= job.need
        left = engine.budget - len(decoding)
        filled: list[_Job] = []
        for job in self.filling:
            chunk = min(job.need, left)
            if chunk <= 0:
                break
            took += engine.new * chunk + engine.attention * chunk * (job.context + chunk / 2)
            job.need -= chunk
            job.context += chunk
            left -= chunk
            if not job.need:
                filled.append(job)
        self._pass_to(self.now + took, busy=True)
        if filled:
            self.filling = [job for job in self.filling if job.need]
            for job in filled:
                self._filled(job)
        still: list[_Job] = []
        for job in (*decoding, *filled):
            if job.left > 0:
                still.append(job)
                continue
            self._leave(job)
            self.seen.append(Seen(job.request, job.request.at, job.first, self.now, job.cached or 0))
        self.decoding = still

    def _take_for(self, tokens: int) -> bool:
        if self._take(tokens):
            self.free += tokens
            return True
        return False
