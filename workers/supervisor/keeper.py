"""Keeps one worker running: waits for what happens, asks the table of `life` what to do, and does it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable

import httpx2 as httpx

from workers.engines.spec import LaunchSpec
from workers.errors import WorkerToolError
from workers.supervisor.inference import Asking
from workers.supervisor.life import Action, Event, Life, Moment, Policy, State, step
from workers.supervisor.process import CannotStart, Claim, EngineRun, Engines
from workers.supervisor.report import Report


class Keeper:
    """One worker from its first start until it is stopped or given up. `places` bounds how many start at once."""

    def __init__(
        self,
        spec: LaunchSpec,
        claim: Claim,
        engines: Engines,
        client: httpx.AsyncClient,
        places: asyncio.Semaphore,
        stop: asyncio.Event,
        policy: Policy,
        report: Report,
    ) -> None:
        self._spec = spec
        self._claim = claim
        self._engines = engines
        self._client = client
        self._places = places
        self._stop = stop
        self._policy = policy
        self._report = report
        self._engine: EngineRun | None = None
        self._reason = ""
        self._refused = ""  # why it may not be started again

    async def run(self) -> Life:
        """Returns when nothing more will happen: stopped, or failed for good."""
        life = Life(since=time.monotonic())
        try:
            while True:
                before, event = life, await self._next(life)
                life, action = step(life, event, self._moment())
                if before.state is State.STARTING and life.state is not State.STARTING:
                    self._places.release()
                self._do(action)
                if life.state is not before.state:
                    self._report.changed(self._spec, life, self._last_words(life))
                if life.is_over:
                    return life
        finally:
            self._claim.release()

    async def _next(self, life: Life) -> Event:
        """What happens to it next. Every state has its own few things that can."""
        match life.state:
            case State.STOPPED | State.BACKING_OFF:
                return await self._until_due(life)
            case State.STARTING | State.READY:
                return await self._until_changed(life)
            case State.STOPPING:
                await self._until_dead()
                return Event.DIED
            case State.FAILED:
                raise AssertionError("nothing happens to a worker that was given up")

    async def _until_due(self, life: Life) -> Event:
        """Waits for the back-off to pass and for a place to start in, or for the stop."""
        if life.deadline is not None:
            await _first(self._stop.wait(), within=life.deadline - time.monotonic())
        place = asyncio.ensure_future(self._places.acquire())
        await _first(self._stop.wait(), place)
        if life.state is State.BACKING_OFF and not self._stop.is_set():
            await _first(self._stop.wait(), asyncio.ensure_future(self._look_again()))
        if not self._stop.is_set():
            return Event.START if life.state is State.STOPPED else Event.DUE
        if place.done() and not place.cancelled():
            self._places.release()
        return Event.STOP

    async def _look_again(self) -> None:
        """An artifact may have been changed since the engine was started on it."""
        self._refused = ""
        try:
            if self._spec.recheck is not None:
                await asyncio.to_thread(self._spec.recheck)
        except WorkerToolError as error:
            self._refused = str(error)

    async def _until_changed(self, life: Life) -> Event:
        """Waits for a running engine to answer, to die, to be late, or for the stop."""
        if self._engine is None:  # it could not be started, and the reason is known
            return Event.DIED
        gone = asyncio.ensure_future(self._until_dead())
        waits: list[Awaitable[object]] = [gone, self._stop.wait()]
        asking = Asking(self._client, self._spec)
        answered = None
        if life.state is State.STARTING and life.deadline is not None:
            answered = asyncio.ensure_future(asking.until_answered())
            waits.append(answered)
        within = None if life.deadline is None else life.deadline - time.monotonic()
        await _first(*waits, within=within)
        if gone.done() and not gone.cancelled():
            gone.result()
            return Event.DIED
        if self._stop.is_set():
            return Event.STOP
        if answered is not None and answered.done() and not answered.cancelled():
            answered.result()
            return Event.ANSWERED
        self._reason = f"no answer within {self._policy.start_within:g} s ({asking.last})"
        return Event.LATE

    async def _until_dead(self) -> None:
        if self._engine is not None:
            await self._engine.gone()
            self._reason = self._reason or self._engine.outcome

    def _last_words(self, life: Life) -> list[str]:
        """What the engine said last, where that explains the change."""
        if self._engine is None or life.state not in (State.BACKING_OFF, State.FAILED):
            return []
        return self._engine.last_words()

    def _do(self, action: Action) -> None:
        match action:
            case Action.SPAWN:
                self._reason = ""
                try:
                    if self._refused:
                        raise CannotStart(self._refused)
                    self._engine = self._engines.start(self._spec, self._claim)
                except CannotStart as error:
                    self._engine = None
                    self._reason = str(error)
            case Action.END if self._engine is not None:
                self._engine.end()
            case _:
                pass

    def _moment(self) -> Moment:
        return Moment(time.monotonic(), random.random(), self._policy, self._reason)


async def _first(*waits: Awaitable[object], within: float | None = None) -> None:
    """Returns when one of them is done or the time is over; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
