"""One worker as the gateway lives with it: what the router sees of it, and the means to talk to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.engines.dialect import Dialect
from gateway.engines.load import NO_LOAD, UNKNOWN, Load
from gateway.ledger.pricing import Meter
from gateway.protocol.endings import Endings
from gateway.routing.breaker import Breaker
from gateway.routing.elsewhere import News
from gateway.routing.fair import Turnover
from gateway.routing.line import Line
from gateway.routing.outliers import Standing
from gateway.routing.types import WorkerView
from gateway.upstream.pool import Pool

logger = logging.getLogger("tollgate.fleet")

BUSY_SECONDS: Final = 1.0  # for which an engine that refused for lack of room is taken to have no more than it had then
FEW: Final = 8  # requests in flight
FIRST_REQUESTS: Final = 2  # at once, to a worker that is not warm yet


@dataclass(slots=True, kw_only=True, eq=False)
class Backend(WorkerView):
    """A `WorkerView` plus its connections, its engine's dialect and the meter that shares out its busy time.

    `queue` holds the requests that wait for a place here, `turnover` is how fast places come free for them.
    Points in time are `time.monotonic()` seconds.
    """

    pool: Pool
    dialect: Dialect
    meter: Meter
    queue: Line = field(default_factory=Line)
    endings: Endings = field(default_factory=Endings)  # of its answers
    turnover: Turnover = field(default_factory=Turnover)
    load: Load = NO_LOAD  # as the engine told it last
    cold_since: float = 0.0  # when it came up, while it is warming up; 0: it is warm
    most_cold: int = 0  # requests it is given at once while it is; 0: no bound
    prompt_ratio: float | None = None  # of its prompts: tokens as it counted them for one as estimated from bytes
    event_ratio: float | None = None  # of its streams: tokens of output for one that was seen
    news: News | None = None  # for other gateways to hear; None where there are none
    promised: int = 0  # places given to requests that waited and have not taken them yet
    _cache_tokens: int = UNKNOWN  # as the engine told it last
    _full_at: int = 0  # requests in flight when the engine refused for lack of room
    _full_until: float = 0.0

    def has_room(self, now: float) -> bool:
        most = self.worker.max_inflight
        if self.most_cold:
            most = self.most_cold if most is None else min(most, self.most_cold)
        if self._full_until > now:
            most = self._full_at if most is None else min(most, self._full_at)
        return most is None or self.inflight + self.promised < most

    def polled(self, load: Load, at: float) -> None:
        """Its engine was asked for its load at that time: the figures are at least as old."""
        self.load = load
        self.running, self.waiting, self.kv_usage = load.running, load.waiting, load.kv_usage
        self.polled_at = at
        if load.cache_tokens != UNKNOWN and self.prefixes is not None:
            if load.cache_tokens != self._cache_tokens:  # another engine than the one whose answers were learnt from
                self._cache_tokens = load.cache_tokens
                self.prefixes.capacity = None
            self.prefixes.told(load.cache_tokens / (self.prompt_ratio or 1.0))

    def let_in(self, now: float) -> None:
        """Gives the places that are free to those whose turn it is. To be called whenever one comes free, and when the
        worker is heard again: while it is silent they wait for another's."""
        queue = self.queue
        while queue.waiting and self.up and not (self.draining or self.silent) and self.has_room(now):
            self.promised += 1
            queue.give(now)
            self.turnover.given(now, queue.waiting > 0)

    def full(self, now: float) -> None:
        """The engine has refused one of the requests in flight for lack of room. With few of them in flight that is
        not our doing, and says nothing of how many it could take."""
        if self.inflight > FEW:
            self._full_at = self.inflight - 1
            self._full_until = now + BUSY_SECONDS

    def succeeded(self, engine_model: str) -> None:
        """An attempt has been answered, were it with a refusal of the request."""
        self.standing.attempts += 1.0
        if self.breakers and (breaker := self.breakers.get(engine_model)) is not None:
            was = breaker.state
            breaker.succeeded()
            if was != "closed":
                self._say(logging.INFO, "breaker closed", engine_model)

    def failed(self, engine_model: str, now: float, *, trial: Breaker | None) -> None:
        """An attempt has failed, and it was the worker's fault; `trial` is the breaker whose trial it was."""
        self.standing.attempts += 1.0
        self.standing.failures += 1.0
        breaker = self.breakers.setdefault(engine_model, Breaker())
        was = breaker.state
        breaker.failed(now, trial=trial is breaker)
        if breaker.state == "open" and was != "open":
            self._say(logging.WARNING, "breaker opened", engine_model)

    def forgive(self, now: float, *, cold: bool) -> None:
        """It is there, maybe again: what it was before says nothing any more."""
        self.silent = False
        self.cold_since = now if cold else 0.0
        self.most_cold = FIRST_REQUESTS if cold else 0  # `fleet/ramp` goes on from there
        self.breakers.clear()
        self.standing = Standing()
        if self.prefixes is not None:
            self.prefixes.clear()
        self.let_in(now)

    def _say(self, level: int, event: str, engine_model: str) -> None:
        logger.log(level, event, extra={"fields": {"worker": self.worker.name, "serves": engine_model}})


class Serving:
    """The workers by the model and version that they serve; by None those of any version."""

    __slots__ = ("siblings",)

    def __init__(self) -> None:
        self.siblings: dict[tuple[str, str | None], tuple[Backend, ...]] = {}

    def views(self, model: str, version: str | None) -> Sequence[Backend]:
        """The workers that serve a version of a model, any version for None, whatever their state."""
        return self.siblings.get((model, version), ())
