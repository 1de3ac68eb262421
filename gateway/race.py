"""Which worker answers: one after another as they fail, or a second beside the first while that is slow.

Only before a byte has reached the client may another worker be asked; this is that time, and it ends with a winner.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from gateway.call import Call
from gateway.clock import monotonic
from gateway.dispatch import Dispatch
from gateway.errors import AdapterNotLoaded, GatewayError, Overloaded, UpstreamError, WorkerTimeout
from gateway.fleet.backend import Backend
from gateway.fleet.registry import Fleet
from gateway.fleet.room import WaitingRoom
from gateway.ledger.record import Outcome
from gateway.routing.fair import rank
from gateway.routing.line import Claim, Ticket
from gateway.routing.pace import Pace
from gateway.routing.placement import Shelf
from gateway.routing.types import Step
from gateway.settle import Settlement
from gateway.table import Hedge
from gateway.trace import Admitted, Trace

TIMER_SECONDS: Final = 0.005  # by which a timer may be early


class Racing:
    """What all races of one process share."""

    __slots__ = ("fleet", "pace", "room", "settlement")

    def __init__(self, fleet: Fleet, settlement: Settlement) -> None:
        self.fleet = fleet
        self.settlement = settlement
        self.room = WaitingRoom()
        self.pace = Pace()


class Race:
    """One request's, from its plan to the call that is answered."""

    __slots__ = ("_admitted", "_allowances", "_has_retry", "_left", "_shared", "_steps", "_trace")

    def __init__(self, shared: Racing, trace: Trace, admitted: Admitted) -> None:
        route = admitted.plan.route
        self._shared = shared
        self._trace = trace
        self._admitted = admitted
        self._steps = list(admitted.plan.steps)  # not yet asked
        self._left = route.retry.attempts + 1
        self._has_retry = False  # taken from the route's budget already, and not yet used
        self._allowances = allowances = shared.pace.allowances(route.name)
        allowances.retries.deposit(route.retry.budget)
        if route.hedge is not None:
            allowances.hedges.deposit(route.hedge.at_most)

    async def winner(self) -> Call:
        """The call whose answer has begun; it is `trace.dispatch`'s.

        Raises the last failure when nobody answers; its call is then `trace.dispatch`'s and still to be closed.
        """
        hedge, trace = self._admitted.plan.route.hedge, self._trace
        while True:
            at = self._with_room()
            if at is not None and self._is_ready(self._steps[at]):
                first = self._take(at)
            else:
                first = await self._begin_later(at)
            began = first.dispatch.opened_at
            try:
                if hedge is None:
                    await first.open(self._shared.fleet, self)
                    trace.waited += first.answered_at - began
                    return first
                winner = await self._hedged(first, hedge)
                trace.waited += winner.answered_at - began
                return winner
            except (UpstreamError, Overloaded) as error:
                now = monotonic()
                trace.waited += now - began
                dispatch = trace.dispatch
                assert dispatch is not None
                if self._is_past_its_ttft(now):  # by the request's own terms, which say nothing of the worker
                    raise _late(cast("float", self._admitted.ask.preferences.max_ttft_seconds)) from error
                lost = self._has_lost_its_adapter(dispatch, error)
                if lost:
                    self._steps.insert(0, dispatch.step)  # and has it load it again
                else:
                    dispatch.blame(error)
                if not self._may_go_on(now, is_retry=not lost):
                    raise
                self._has_retry = False
                trace.dispatch = None
                self._shared.settlement.other_attempt(trace, dispatch, "failed", error)

    async def _begin_later(self, at: int | None) -> Call:
        """Waits for a place, or for an adapter: on the worker of the step `at`, which has room, if any has."""
        if at is None and not any([step.target.adapter for step in self._steps]):
            return await self._take_a_turn(_rather(self._steps))
        return await self._begin_with_adapter(self._best() if at is None else at)

    async def _take_a_turn(self, steps: list[Step]) -> Call:
        """Of some of the steps that are left, all of them ready."""
        ticket = await self._wait_for_room(steps)
        call = self._take(self._steps.index(steps[ticket.place]))
        call.dispatch.charge = ticket.charge
        return call

    async def _begin_with_adapter(self, at: int) -> Call:
        """Where workers may lack the adapter: it is brought to that of the step `at`, the best, unless that has no room
        and others have the adapter. Whoever has it keeps it while the request waits for room."""
        kept: list[tuple[Shelf, str]] = []
        brought: Step | None = None
        try:
            while brought is None:
                step = self._steps[at]
                if self._is_ready(step) or (
                    not self._has_room(step) and any(map(self._is_ready, _rather(self._steps)))
                ):
                    break
                try:
                    await self._bring(step, kept)
                    brought = step
                except AdapterNotLoaded:
                    self._steps.remove(step)
                    self._left -= 1
                    if not self._steps or self._left <= 0:
                        raise
                    at = self._best()
            ready = _rather([one for one in self._steps if one is brought or self._is_ready(one)])
            for one in ready:
                if self._has_room(one):
                    return self._take(self._steps.index(one))
            for one in ready:
                if one.view.shelf is not None and one.target.adapter is not None:
                    one.view.shelf.enter(one.engine_model)
                    kept.append((one.view.shelf, one.engine_model))
            return await self._take_a_turn(ready)
        finally:
            now = monotonic()
            for shelf, name in kept:
                shelf.leave(name, now)

    async def _bring(self, step: Step, kept: list[tuple[Shelf, str]]) -> None:
        """Has the step's worker load its adapter, and waits for it as long as the request may."""
        shelf, adapter = step.view.shelf, step.target.adapter
        assert shelf is not None
        assert adapter is not None
        began, timeout = monotonic(), self._admitted.plan.route.timeout
        elapsed = began - self._trace.exchange.arrived
        patience = min(timeout.first_token, timeout.total - elapsed)
        most = self._admitted.ask.preferences.max_ttft_seconds
        if most is not None:
            patience = min(patience, most - elapsed)
        try:
            backend, adapters = cast("Backend", step.view), self._shared.fleet.adapters
            step.engine_model = await adapters.bring(backend, adapter, max(0.0, patience), self._may_try_another)
            kept.append((shelf, step.engine_model))
        finally:
            self._trace.waited += monotonic() - began

    def _is_ready(self, step: Step) -> bool:
        """Whether its worker has the adapter it is for, if any; the step then names it as the worker does now."""
        adapter = step.target.adapter
        if adapter is None or step.view.shelf is None:
            return True
        name = step.view.adapters.get(adapter)
        if name is None:
            return False
        step.engine_model = name
        return True

    def _has_room(self, step: Step) -> bool:
        backend = cast("Backend", step.view)
        return not backend.queue.waiting and backend.has_room(monotonic())

    def _has_lost_its_adapter(self, dispatch: Dispatch, error: GatewayError) -> bool:
        """Another gateway has unloaded it, or the engine was started anew: that is no failure of the worker."""
        step = dispatch.step
        if error.code != "worker_lacks_model" or step.target.adapter is None or step.view.shelf is None:
            return False
        self._shared.fleet.adapters.lost(dispatch.backend, step.engine_model, dispatch.opened_at)
        return True

    def _take(self, at: int) -> Call:
        step = self._steps.pop(at)
        self._left -= 1
        call = Call(self._trace, self._admitted, step)
        self._trace.dispatch = call.dispatch
        self._shared.settlement.begun(self._trace, self._admitted, call.dispatch)
        return call

    def _with_room(self) -> int | None:
        """Where the best step is whose worker has room and nobody waiting. What has befallen workers since the plan
        was made counts: those that can not be reached now are left out as long as any other is there."""
        now = monotonic()
        away: int | None = None
        others = False
        for at, step in enumerate(self._steps):
            backend = cast("Backend", step.view)
            is_away = backend.silent or backend.draining or not backend.up
            if not is_away:
                others = True
            elif away is not None:
                continue
            if not backend.queue.waiting and backend.has_room(now):
                if not is_away:
                    return at
                away = at
        return None if others else away

    def _best(self) -> int:
        return self._steps.index(_rather(self._steps)[0])

    def _may_try_another(self) -> bool:
        """Whether a worker that can not be reached may be given up for one that can."""
        return self._left > 1 and any([not _is_away(step) for step in self._steps])

    # Asker

    def may_leave(self) -> bool:
        """While its worker is silent: another one has room, and the route's retries are not used up."""
        now = monotonic()
        if self._is_past_its_ttft(now) or not any([not _is_away(one) and self._has_room(one) for one in self._steps]):
            return False
        if not self._may_go_on(now):
            return False
        self._has_retry = True
        return True

    async def _wait_for_room(self, steps: list[Step]) -> Ticket:
        """In line for the workers of some steps not yet taken; the ticket has a place on one of them."""
        trace, admitted, room = self._trace, self._admitted, self._shared.room
        queue, timeout, preferences = trace.table.settings.queue, admitted.plan.route.timeout, admitted.ask.preferences
        began = monotonic()
        elapsed = began - trace.exchange.arrived
        patience = min(queue.wait, timeout.first_token, timeout.total - elapsed)
        if preferences.max_ttft_seconds is not None:
            patience = min(patience, preferences.max_ttft_seconds - elapsed)
        patience = max(0.0, patience)
        tenant, own = admitted.key.tenant, admitted.key.priority
        place = rank(tenant.priority if own is None else own, preferences.priority)
        claim = Claim(tenant.name, tenant.weight, place, admitted.ask.prompt_tokens, admitted.ask.output_tokens)
        backends = [cast("Backend", step.view) for step in steps]
        trace.ticket = ticket = room.ticket(claim, backends, began)
        room.join(ticket, length=queue.length, patience=patience)
        try:
            await room.turn(ticket, backends, patience)
        finally:
            seconds = monotonic() - began
            trace.queued += seconds
            trace.waited += seconds
        return ticket

    async def _hedged(self, first: Call, hedge: Hedge) -> Call:
        """Asks a second worker when the first takes longer than the route's moment; the first to answer wins."""
        request, model = self._admitted.request, first.dispatch.step.target.model
        latencies = self._shared.pace.latencies(model, request.stream)
        after = hedge.seconds
        if after is None:
            after = latencies.percentile(hedge.percentile or 0.0)
        if after is None or not self._steps or not self._left:
            await first.open(self._shared.fleet, self)
            winner = first
        else:
            winner = await self._first_of_two(first, after)
            if winner is not first and first.dispatch.outcome == "hedged":
                # At least so long: were it left out, the percentile would forget the slow ones, and hedge ever sooner.
                latencies.observe(monotonic() - first.dispatch.opened_at)
        latencies.observe(winner.answered_at - winner.dispatch.opened_at)
        return winner

    async def _first_of_two(self, first: Call, after: float) -> Call:
        trace, fleet = self._trace, self._shared.fleet
        running = {asyncio.create_task(first.open(fleet, self)): first}
        leaves: Outcome = "aborted"  # what a call comes to that is still running at the end
        try:
            done, _ = await asyncio.wait(running, timeout=after)
            if not done and (second := self._beside()) is not None:
                running[asyncio.create_task(second.open(fleet, self))] = second
            while True:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    call = running.pop(task)
                    trace.dispatch = call.dispatch
                    error = task.exception()
                    if error is None:
                        leaves = "hedged"
                        return call
                    if not isinstance(error, UpstreamError | Overloaded):  # a refusal is an answer too
                        leaves = "hedged"
                        raise error
                    if not running:
                        raise error
                    call.dispatch.blame(error)
                    self._shared.settlement.other_attempt(trace, call.dispatch, "failed", error)
                    trace.dispatch = next(iter(running.values())).dispatch
        finally:
            for task, call in running.items():
                task.cancel()
                task.add_done_callback(_retrieve)
                call.abort()
                if call.dispatch is not trace.dispatch:
                    self._shared.settlement.other_attempt(trace, call.dispatch, leaves, None)

    def _beside(self) -> Call | None:
        """A second call beside the first, if a worker has room for it now and the route's share is not used up."""
        at = self._with_room()
        if at is None or _is_away(self._steps[at]) or not self._is_ready(self._steps[at]):
            return None
        if not self._allowances.hedges.take():
            return None
        first = self._trace.dispatch
        call = self._take(at)
        self._trace.dispatch = first
        return call

    def _may_go_on(self, now: float, *, is_retry: bool = True) -> bool:
        """A load that all wait for adds nothing to a pool that fails, so it is not of the route's share of retries."""
        timeout = self._admitted.plan.route.timeout
        return (
            bool(self._steps)
            and self._left > 0
            and now - self._trace.exchange.arrived < timeout.total
            and (not is_retry or self._has_retry or self._allowances.retries.take())
        )

    def _is_past_its_ttft(self, now: float) -> bool:
        most = self._admitted.ask.preferences.max_ttft_seconds
        if most is None or not self._admitted.request.stream:
            return False
        return now - self._trace.exchange.arrived >= most - TIMER_SECONDS


def _is_away(step: Step) -> bool:
    """It can not be reached, or is to finish."""
    view = step.view
    return view.silent or view.draining or not view.up


def _rather(steps: list[Step]) -> list[Step]:
    """Those whose workers are there; all, where none is."""
    return [step for step in steps if not _is_away(step)] or steps


def _late(most: float) -> GatewayError:
    return WorkerTimeout(
        f"No worker began its answer within the request's `routing.max_ttft_ms` of {most * 1000:g}.",
        param="routing.max_ttft_ms",
        code="ttft_exceeded",
    )


def _retrieve(task: asyncio.Task[None]) -> None:
    """Nobody waits for it any more; what it failed with is no news."""
    if not task.cancelled():
        task.exception()
