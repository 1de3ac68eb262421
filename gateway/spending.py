"""What running requests have cost so far, held against budgets that refuse.

A worker that is priced by its time tells nobody beforehand what a request will cost. So a little is reserved ahead, and
more while it runs; a request whose budget has no more is stopped before it costs what is not there, and billed for what
was done. What is priced by the token needs none of this: the most it can cost is reserved when it is admitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.clock import monotonic
from gateway.errors import QuotaExhausted
from gateway.ledger.pricing import SECOND, gpu_cost
from gateway.tenancy.reservation import AHEAD_NS
from gateway.trace import Trace

EVERY_SECONDS: Final = 0.1  # of AHEAD_NS, so that two checks may be late
_EVERY_NS: Final = int(EVERY_SECONDS * SECOND)


class Spending:
    """The requests of one process whose cost is watched."""

    def __init__(self) -> None:
        self._running: dict[Trace, Callable[[], object]] = {}  # with what cancels it
        self.stopped = 0

    def watch(self, trace: Trace, cancel: Callable[[], object]) -> None:
        """From now on until `forget`, `cancel` is called when the request runs out of money; `trace.cut` says so."""
        self._running[trace] = cancel

    def forget(self, trace: Trace) -> None:
        if trace in self._running:
            del self._running[trace]

    def check(self) -> None:
        now = monotonic()
        for trace, cancel in list(self._running.items()):
            if trace.cut is None and self._runs_out(trace, now):
                self.stopped += 1
                trace.cut = QuotaExhausted(
                    "The budget of your tenant was used up while this request ran, so it was stopped. "
                    "What was done until then is billed."
                )
                cancel()

    def _runs_out(self, trace: Trace, now: float) -> bool:
        dispatch, admitted = trace.dispatch, trace.admitted
        if dispatch is None or admitted is None or dispatch.outcome is not None:
            return False
        hourly = dispatch.hourly
        if not hourly:
            return False
        running = 2 if admitted.plan.route.hedge is not None else 1  # the other attempt costs no more than this one
        cost = sum([row.cost_nanousd for row in trace.others]) + running * dispatch.cost_so_far(now)
        if admitted.lease.extend(cost + running * gpu_cost(AHEAD_NS, hourly)):
            return False
        return not admitted.lease.covers(cost + running * gpu_cost(_EVERY_NS, hourly))

    async def run(self) -> None:
        """For as long as the process serves."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            self.check()
