"""Virtual time: requests come, gateways choose, workers compute, gauges are polled, gateways talk, things break."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from random import Random
from typing import Literal, NamedTuple, Protocol

from loadtests.simulate.engine import Engine, Job, Worker
from loadtests.simulate.policies import Rule
from loadtests.simulate.sight import Books, Delta, Load, Reading, gauges
from loadtests.simulate.traffic import Request

ATTEMPTS = 3  # workers that a request is tried on
TOLD_EVERY = 250  # requests
JITTER = 0.1  # of the time between two polls

Outcome = Literal[
    "done",
    "failed",  # on every worker that it was tried on
    "broken",  # after its first token, where nothing can be tried again
    "too_large",  # for any worker's KV cache
]


class Fault(NamedTuple):
    """What happens to one worker at a time in seconds. It is `slower` by a factor, or `dies` (0)."""

    kind: Literal["slower", "dies"]
    worker: int
    at: float
    factor: float = 0.0


class Site(NamedTuple):
    """`believed` is how far gateways are off at first: they take every other worker for that many times faster than it
    is, and those between for as many times slower."""

    workers: int = 8
    engine: Engine = Engine()
    gateways: int = 1
    load: Load = "live"
    poll: float = 0.2  # seconds; 0: never
    share: float | None = None  # seconds after which the other gateways know what one did; None: they never do
    believed: float = 1.0
    faults: tuple[Fault, ...] = ()
    adapters: int = 0  # that requests may ask for

    def rates(self) -> list[float]:
        """Prompt tokens a second that gateways begin with, by worker."""
        wrong = (self.believed, 1 / self.believed)
        return [self.engine.prefill * wrong[i % 2] for i in range(self.workers)]


class Ended(NamedTuple):
    """What became of a request; times in seconds from its arrival, NaN where it had none."""

    request: Request
    outcome: Outcome
    worker: int
    gateway: int
    attempts: int
    first: float
    end: float
    cached: int  # tokens that the engine had


class Router(Protocol):
    """One gateway's. One that does not listen is neither polled for nor told what others do."""

    listens: bool

    def choose(self, request: Request, tried: Sequence[int], now: float) -> int | None: ...

    def dispatched(self, worker: int, request: Request, now: float) -> int:
        """Gives the uncached tokens it expects."""
        ...

    def first(self, worker: int, job: Job, now: float) -> None: ...

    def ended(self, worker: int, job: Job, now: float) -> None: ...

    def failed(self, worker: int, request: Request, now: float) -> None: ...

    def polled(self, worker: int, reading: Reading) -> None: ...

    def heard(self, delta: Delta, now: float) -> None: ...


Routers = Callable[[Site, Sequence[Worker], Random], list[Router]]


class Ruled:
    """A rule over what one gateway's books say."""

    def __init__(self, rule: Rule, books: Books, dice: Random) -> None:
        self.listens = books.load != "live"
        self._rule = rule
        self._books = books
        self._dice = dice

    def choose(self, request: Request, tried: Sequence[int], now: float) -> int | None:
        sight = self._books.sight(request, tried, now)
        return self._rule(sight, self._dice) if sight.able else None

    def dispatched(self, worker: int, request: Request, now: float) -> int:
        return self._books.dispatched(worker, request, now, now)

    def first(self, worker: int, job: Job, now: float) -> None:
        self._books.first(worker, job.request, now)

    def ended(self, worker: int, job: Job, now: float) -> None:
        self._books.ended(worker, job.request, now)

    def failed(self, worker: int, request: Request, now: float) -> None:
        self._books.failed(worker, request, now)

    def polled(self, worker: int, reading: Reading) -> None:
        self._books.polled(worker, reading)

    def heard(self, delta: Delta, now: float) -> None:
        if delta.kind == "dispatched":
            self._books.dispatched(delta.worker, delta.request, now, delta.at)
        elif delta.kind == "first":
            self._books.first(delta.worker, delta.request, now)
        else:
            self._books.ended(delta.worker, delta.request, now)


def ruled(make: Callable[[], Rule]) -> Routers:
    def routers(site: Site, workers: Sequence[Worker], dice: Random) -> list[Router]:
        def books() -> Books:
            return Books(site.workers, site.load, site.engine.blocks, site.rates(), workers)

        one = books() if site.load == "live" else None
        return [Ruled(make(), one or books(), dice) for _ in range(site.gateways)]

    return routers


_Kind = Literal["worker", "poll", "delta", "fault"]


class World:
    """One run of one policy."""

    def __init__(self, site: Site, requests: Sequence[Request], routers: Routers, seed: int) -> None:
        dice = Random(f"world {seed}")
        self.site = site
        self.workers = [Worker(site.engine) for _ in range(site.workers)]
        self.routers = routers(site, self.workers, dice)
        self.ended: list[Ended] = []
        self._requests = requests
        self._dice = dice
        self._events: list[tuple[float, int, _Kind, int, object]] = []
        self._order = 0
        self._versions = [0] * site.workers  # of each worker's next event: an older one no longer holds
        self._open: dict[int, tuple[int, list[int]]] = {}  # number -> gateway, workers tried
        self._pending: dict[int, int] = {}  # number -> uncached tokens as dispatched, until its first token
        self._left = len(requests)

    def run(self, tell: Callable[[int], None] = lambda count: None) -> list[Ended]:
        """Until every request has ended, in the order in which they do; `tell` hears how many more have come."""
        for fault in self.site.faults:
            self._at(fault.at, "fault", fault.worker, fault)
        if self.site.poll:
            for gateway, router in enumerate(self.routers):
                for worker in range(self.site.workers if router.listens else 0):
                    self._at(self._dice.random() * self.site.poll, "poll", worker, gateway)
        requests, place = self._requests, 0
        while self._left:
            due = requests[place].at if place < len(requests) else math.inf
            if due <= (self._events[0][0] if self._events else math.inf):
                if due == math.inf:
                    raise RuntimeError("requests are left that no event will end")
                self._arrive(requests[place], due)
                place += 1
                if not place % TOLD_EVERY:
                    tell(TOLD_EVERY)
                continue
            now, _, kind, worker, what = heappop(self._events)
            if kind == "worker":
                if what == self._versions[worker]:
                    self._advance(worker, now)
                    self._schedule(worker)
            elif kind == "poll":
                assert isinstance(what, int)
                self._poll(worker, what, now)
            elif kind == "delta":
                assert isinstance(what, Delta)
                for gateway, router in enumerate(self.routers):
                    if gateway != worker:
                        router.heard(what, now)
            else:
                assert isinstance(what, Fault)
                self._break(what, now)
        return self.ended

    def _at(self, when: float, kind: _Kind, worker: int, what: object) -> None:
        self._order += 1
        heappush(self._events, (when, self._order, kind, worker, what))

    def _schedule(self, worker: int) -> None:
        self._versions[worker] += 1
        when = self.workers[worker].next
        if when < math.inf:
            self._at(when, "worker", worker, self._versions[worker])

    def _arrive(self, request: Request, now: float) -> None:
        gateway = self._dice.randrange(len(self.routers)) if len(self.routers) > 1 else 0
        self._open[request.number] = (gateway, [])
        self._dispatch(request, now)

    def _dispatch(self, request: Request, now: float) -> None:
        gateway, tried = self._open[request.number]
        router = self.routers[gateway]
        while len(tried) < ATTEMPTS:
            worker = router.choose(request, tried, now)
            if worker is None:
                break
            tried.append(worker)
            uncached = router.dispatched(worker, request, now)
            self._pending[request.number] = uncached
            if not self.workers[worker].alive:
                router.failed(worker, request, now)
                continue
            self._tell(gateway, Delta("dispatched", now, worker, request, uncached))
            self._advance(worker, now)
            job = self.workers[worker].add(request)
            self._schedule(worker)
            if job is None:
                router.ended(worker, Job(request), now)
                self._tell(gateway, Delta("ended", now, worker, request, self._let_go(request)))
                self._end(request, "too_large", worker, None)
            return
        self._end(request, "failed", tried[-1] if tried else -1, None)

    def _let_go(self, request: Request) -> int:
        """The uncached tokens that were still counted as pending."""
        return self._pending.pop(request.number, 0)

    def _tell(self, gateway: int, delta: Delta) -> None:
        if self.site.share is not None and len(self.routers) > 1 and self.routers[gateway].listens:
            self._at(delta.at + self.site.share, "delta", gateway, delta)

    def _advance(self, worker: int, now: float) -> None:
        for job, event in self.workers[worker].advance(now):
            request = job.request
            gateway = self._open[request.number][0]
            if event == "first":
                self.routers[gateway].first(worker, job, now)
            else:
                self.routers[gateway].ended(worker, job, now)
                self._end(request, "done", worker, job)
            self._tell(
                gateway, Delta("first" if event == "first" else "ended", now, worker, request, self._let_go(request))
            )

    def _end(self, request: Request, outcome: Outcome, worker: int, job: Job | None) -> None:
        gateway, tried = self._open.pop(request.number)
        first = math.nan if job is None or job.first is None else job.first - request.at
        end = math.nan if job is None or job.end is None else job.end - request.at
        cached = 0 if job is None else job.cached
        self.ended.append(Ended(request, outcome, worker, gateway, len(tried), first, end, cached))
        self._left -= 1

    def _poll(self, worker: int, gateway: int, now: float) -> None:
        self._advance(worker, now)
        self._schedule(worker)
        self.routers[gateway].polled(worker, gauges(self.workers[worker], now))
        wait = self.site.poll * (1 + JITTER * (2 * self._dice.random() - 1))
        self._at(now + wait, "poll", worker, gateway)

    def _break(self, fault: Fault, now: float) -> None:
        worker = self.workers[fault.worker]
        self._advance(fault.worker, now)
        if fault.kind == "slower":
            worker.slowness = fault.factor
        else:
            lost = worker.die()
            for job in lost:
                gateway = self._open[job.request.number][0]
                self.routers[gateway].failed(fault.worker, job.request, now)
                self._tell(gateway, Delta("ended", now, fault.worker, job.request, self._let_go(job.request)))
            for job in lost:
                if job.first is None:
                    self._dispatch(job.request, now)
                else:
                    self._end(job.request, "broken", fault.worker, job)
        self._schedule(fault.worker)
