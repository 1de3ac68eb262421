"""One worker probed over time: its backend is kept true to what the probes and the requests find."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from random import Random

from gateway.fleet.backend import Backend
from gateway.fleet.books import Books, ProbeAccount
from gateway.fleet.health import TRANSITIONS, Event, State
from gateway.fleet.probes import ProbeFailed, Prober
from gateway.table import Model, Probe

logger = logging.getLogger("tollgate.fleet")

JITTER = 0.1  # of the interval, either way: many gateways shall not probe in step
PROBES_PER_LISTING = 5  # a worker that is up is asked this rarely what it serves
HOSTED_SECONDS = 10.0  # a hosted endpoint is somebody else's: at least this long between probes
SHORTEST_PAUSE = 0.1  # however often requests report failures
ABSENT_SECONDS = 0.5  # between two looks whether a worker that does not answer is there by now, at most


class Watch:
    """Probes `backend`'s worker until cancelled, one probe at a time. `on_change` is called after every change; what
    a probe has the engine do goes into the `books`."""

    def __init__(
        self,
        backend: Backend,
        prober: Prober,
        model: Model,
        pace: Probe,
        on_change: Callable[[], None],
        random: Random,
        books: Books,
        *,
        cold: bool,
    ) -> None:
        """`cold` where the worker has joined others that serve already."""
        self.backend = backend
        self._prober = prober
        self._model: Model = model
        self._pace: Probe = pace
        self._on_change = on_change
        self._random = random
        self._books = books
        self._state: State = "up" if backend.up else "down"
        self._cold = cold
        self._answers = False  # it was there when looked at last, well or not
        self._probes_to_listing = 0
        self._losses = 0
        self._wake = asyncio.Event()

    def renew(self, model: Model, pace: Probe) -> None:
        """The configuration has changed around this worker."""
        changed = model != self._model or pace != self._pace
        self._model, self._pace = model, pace
        if changed:
            self._probes_to_listing = 0
            self._wake.set()

    def lost(self, why: str) -> None:
        """A request could not reach the worker: down at once, and looked at again soon."""
        if self._state == "down":
            return
        self._losses += 1
        self._move("lost", why)
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            losses = self._losses
            why = await self._probe()
            if losses == self._losses:  # otherwise the probe saw the worker before it was lost
                self._move("passed" if why is None else "failed", why or "")
                await self._pause()
            else:
                await asyncio.sleep(SHORTEST_PAUSE)

    async def _probe(self) -> str | None:
        """Why the worker is not well, None when it is."""
        try:
            await (self._bring_up() if self._state == "down" else self._check())
        except ProbeFailed as error:
            return str(error)
        except Exception as error:  # whatever one worker answers, it must not end its watch
            logger.exception("probe failed in a new way", extra={"fields": {"worker": self.backend.worker.name}})
            return f"its probe failed ({type(error).__name__})"
        return None

    async def _bring_up(self) -> None:
        """Everything that must hold before a worker gets its first request."""
        self._answers = False
        if not self._prober.lists_as_health:
            await self._prober.health(self._pace.wait)
            self._answers = True
        await self._list()
        if self._prober.infers:
            await self._infer()

    async def _infer(self) -> None:
        account = ProbeAccount(self.backend, self._model, self._books)
        worked = True  # also when this is cancelled
        usage = None
        try:
            usage = await self._prober.inference(self._model, self.backend.base_name, self._pace.wait)
            worked = usage is not None
        except ProbeFailed as error:
            worked = error.cut_off
            raise
        finally:
            account.close(usage, worked=worked)

    async def _check(self) -> None:
        if self._prober.lists_as_health:
            await self._list()
            return
        await self._prober.health(self._pace.wait)
        self._probes_to_listing -= 1
        if self._probes_to_listing <= 0:
            await self._list()

    async def _list(self) -> None:
        backend = self.backend
        shelf = backend.shelf
        edition = 0 if shelf is None else shelf.edition
        listed = await self._prober.listing(self._model, self._pace.wait)
        self._probes_to_listing = PROBES_PER_LISTING
        adapters = dict(listed.adapters)
        if shelf is not None:
            if shelf.edition == edition:  # otherwise the list may be older than what was loaded since
                shelf.adopt(adapters, listed.placed, time.monotonic())
            adapters = shelf.names()
        if (backend.base_name, backend.adapters) != (listed.base_name, adapters):
            backend.base_name, backend.adapters = listed.base_name, adapters
            self._on_change()

    def _move(self, event: Event, why: str) -> None:
        before, self._state = self._state, TRANSITIONS[self._state, event]
        backend = self.backend
        was_up, backend.up = backend.up, self._state != "down"
        self._cold = self._cold or self._state == "down"
        fields: dict[str, object] = {"worker": backend.worker.name}
        if self._state == "down" and (was_up or why != backend.why_down):
            backend.why_down = why
            logger.warning("worker down" if was_up else "worker not up", extra={"fields": {**fields, "why": why}})
        elif self._state == "doubtful":
            logger.info("worker probe failed", extra={"fields": {**fields, "why": why}})
            return
        elif before == "down" and backend.up:
            backend.why_down = ""
            backend.forgive(time.monotonic(), cold=self._cold)
            fields |= {"serves": backend.base_name, "adapters": sorted(backend.adapters)}
            logger.info("worker up", extra={"fields": fields})
        else:
            return
        self._on_change()

    async def _pause(self) -> None:
        """Until the next probe is due, or somebody has lost the worker."""
        every = self._pace.every
        if self.backend.worker.engine == "openai":
            every = max(every, HOSTED_SECONDS)
        elif self._state == "down" and not self._answers:
            every = min(every, ABSENT_SECONDS)
        pause = every * self._random.uniform(1 - JITTER, 1 + JITTER)
        await asyncio.sleep(min(SHORTEST_PAUSE, pause))
        try:
            async with asyncio.timeout(pause - min(SHORTEST_PAUSE, pause)):
                await self._wake.wait()
        except TimeoutError:
            return
