"""The end of every request: what it used is charged, recorded, counted and logged, once and without waiting.

Charging and recording happen at once, counting and logging at the end of the loop's turn: done for all requests that
ended in it one after another, that takes 4 us less of each, for the processor's caches hold the code by then.
"""

from __future__ import annotations

import asyncio
import logging

import orjson

from gateway.clock import monotonic, wall
from gateway.decision import decision
from gateway.dispatch import Dispatch
from gateway.errors import GatewayError, WorkerBroke, WorkerTimeout
from gateway.explain.ring import Ring
from gateway.ledger.record import Outcome
from gateway.ledger.writer import Ledger
from gateway.logline import log_line
from gateway.logs import LogWriter, lost
from gateway.protocol.endpoints import ENDPOINTS
from gateway.protocol.usage import NO_USAGE, Usage
from gateway.rows import book, cache_row, closed_row, end, row
from gateway.series import AllSeries, Series
from gateway.spans import Spans
from gateway.table import PRIORITIES
from gateway.telemetry import Metrics
from gateway.trace import Admitted, Trace
from gateway.tuples import made

logger = logging.getLogger("tollgate.settle")

_Settled = tuple[Trace, Usage, bool, int, str, float]  # with: usage, is it estimated, cost, outcome, seconds it took

CHECKPOINT_SECONDS = 2.0  # of what shows nothing while it runs; a stream is checkpointed by its tokens
CLIENT_LEFT = 499  # nginx's status for a client that closed before its answer began


class Settlement:
    """Synchronous throughout, so that a cancelled task settles like any other. To be used inside a running loop."""

    def __init__(
        self, ledger: Ledger, metrics: Metrics, log: LogWriter, spans: Spans | None, decisions: Ring | None = None
    ) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._log = log
        self._spans = spans
        self._decisions = decisions
        self._series = AllSeries()
        self._settled: list[_Settled] = []  # in this turn of the loop
        self._report_settled = self._report_all  # bound once
        self._open: dict[Dispatch, Trace] = {}

    @property
    def has_no_room(self) -> bool:
        """No new request should be begun: its row would find no place in the ledger."""
        return self._ledger.has_no_room

    def settle(self, trace: Trace) -> None:
        """Closes the attempt under way, gives the lease back and writes the ledger; metrics and log follow in the same
        turn of the loop, also in its last."""
        dispatch, usage = trace.dispatch, trace.usage
        estimated = dispatch is not None and not trace.measured
        if dispatch is not None:
            if estimated:
                usage = dispatch.estimated_usage(trace.tokens, usage)
            dispatch.close(_ending(trace), usage or NO_USAGE)
            if dispatch.outcome in ("failed", "rejected"):
                usage, estimated = NO_USAGE, _may_have_worked(trace.error)
        usage = usage or NO_USAGE
        cost = 0
        if trace.admitted is not None:
            cost = self._book(trace, trace.admitted, usage, estimated)
            tokens = 0 if trace.cache == "hit" else usage.prompt_tokens + usage.output_tokens
            trace.admitted.lease.settle(tokens, cost, wall(), trace.started_at)
        if not self._settled:
            trace.exchange.loop.call_soon(self._report_settled)  # to ask for the running loop is a call of the kernel
        duration = monotonic() - trace.exchange.arrived
        self._settled.append((trace, usage, estimated, cost, _outcome(trace), duration))

    def begun(self, trace: Trace, admitted: Admitted, dispatch: Dispatch) -> None:
        """The intent of an attempt, to be told before its worker hears of it."""
        booking = book(trace, admitted, dispatch, self._series)
        prompt = dispatch.prompt_tokens
        cost = 0
        if dispatch.cost_basis == "token_price":
            _, cost = dispatch.so_far(dispatch.opened_at, made(Usage, (prompt, 0, 0)))
        number, opened_at, choices = dispatch.number, dispatch.opened_wall, admitted.request.choices
        self._ledger.begin(booking, trace.id, number, trace.started_at, opened_at, prompt, cost, choices)
        self._open[dispatch] = trace

    def checkpoint(self, trace: Trace, dispatch: Dispatch, tokens: int, usage: Usage | None) -> None:
        """How far an attempt has come, for the case that this process is killed before its end."""
        so_far = dispatch.estimated_usage(tokens, usage)
        gpu_ns, cost = dispatch.so_far(monotonic(), so_far)
        self._ledger.checkpoint(row(trace, dispatch, "crashed", 0, so_far, True, gpu_ns, cost, True))

    def checkpoint_all(self) -> None:
        """Of what shows nothing while it runs: answers that come whole, and streams before their first token."""
        late = monotonic() - CHECKPOINT_SECONDS
        for dispatch, trace in list(self._open.items()):
            if dispatch.outcome is None and dispatch.first_token_at is None and dispatch.opened_at < late:
                self.checkpoint(trace, dispatch, 0, None)

    async def run(self) -> None:
        """Checkpoints, for as long as the process serves."""
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            self.checkpoint_all()

    def other_attempt(self, trace: Trace, dispatch: Dispatch, outcome: Outcome, error: GatewayError | None) -> None:
        """Closes an attempt that another one follows or beats, and keeps its row. What was begun and broken off is
        billed as far as it can have gone."""
        usage = NO_USAGE if outcome == "failed" else dispatch.estimated_usage(0, None)
        dispatch.close(outcome, usage)
        self._open.pop(dispatch, None)
        self._metrics.attempted(dispatch.backend.worker.name, outcome)
        status = 0 if error is None else error.status
        estimated = outcome != "failed" or _may_have_worked(error)
        closed = closed_row(trace, dispatch, status, usage, estimated, False)
        self._ledger.checkpoint(closed)  # which of them is the request's last is not known yet
        trace.others.append(closed)

    def _book(self, trace: Trace, admitted: Admitted, usage: Usage, estimated: bool) -> int:
        """Books what the request's attempts came to, and returns what they cost."""
        ledger, others, dispatch = self._ledger, trace.others, trace.dispatch
        if dispatch is None and trace.cache != "hit" and others:
            others = [*others[:-1], others[-1]._replace(final=True)]
        cost = 0
        for one in others:
            ledger.record(one)
            cost += one.cost_nanousd
        if dispatch is not None:
            if dispatch in self._open:
                del self._open[dispatch]
            self._metrics.attempted(dispatch.backend.worker.name, dispatch.outcome or "")
            end(ledger, trace, dispatch, usage, estimated)
            cost += dispatch.cost_nanousd
        elif trace.cache == "hit":
            ledger.record(cache_row(trace, admitted, usage))
        return cost

    def _report_all(self) -> None:
        settled, self._settled = self._settled, []
        for trace, usage, estimated, cost, outcome, duration in settled:
            try:
                self._report(trace, usage, estimated, cost, outcome, duration)
            except Exception:  # a fault of ours; what others did is still to be told
                logger.exception("request not reported", extra={"fields": {"request_id": trace.id}})

    def _report(self, trace: Trace, usage: Usage, estimated: bool, cost: int, outcome: str, duration: float) -> None:
        exchange, dispatch, ticket = trace.exchange, trace.dispatch, trace.ticket
        series = None if dispatch is None else dispatch.series
        if series is None:
            series = self._series_of(trace)
        status = exchange.status or CLIENT_LEFT
        overhead = None
        ratio = 0.0
        if dispatch is not None:
            if trace.answered_at is not None:
                overhead = max(0.0, trace.answered_at - exchange.arrived - trace.waited)
            first, predicted = dispatch.first_token_at, dispatch.step.ttft_seconds
            if first is not None and predicted > 0.0:
                ratio = (first - dispatch.opened_at) / predicted
        ttft = None if trace.first_at is None else trace.first_at - exchange.arrived
        used = NO_USAGE if trace.cache == "hit" else usage
        prompt, cached, output = used
        stream = trace.request is not None and trace.request.stream
        ending = series.ending(self._metrics, trace.asked, trace.cache, stream, status, outcome)
        ending.tally.add(trace.cache, duration, overhead, ttft, ratio, prompt, cached, output, cost)
        if ticket is not None:
            self._metrics.queued(PRIORITIES[ticket.claim.rank], ticket.position, ticket.expected, trace.queued)
        if self._spans is not None:
            self._spans.request(trace, duration=duration, status=status, tokens=used, cost=cost)
        request_id = trace.id.encode()
        try:
            line = log_line(trace, series, ending, request_id, usage, estimated, cost, ttft, duration, overhead)
        except orjson.JSONEncodeError as error:
            line = lost({"time": trace.started_at, "request_id": trace.id}, error)
        self._log.put(line)
        if self._decisions is not None:
            record = decision(trace, series, ending, request_id, used, estimated, cost, ttft, duration)
            self._decisions.append(record)

    def _series_of(self, trace: Trace) -> Series:
        """Of a request that no worker was asked for, or none that answered."""
        plan = None if trace.admitted is None else trace.admitted.plan
        return self._series.find(
            trace.table.revision,
            trace.key,
            ENDPOINTS[trace.exchange.path].name if trace.exchange.path else "",  # a head that was not understood
            "" if trace.request is None else trace.request.model,
            plan,
            None if plan is None else plan.steps[0].target,
            "",
            "none",
        )


def _ending(trace: Trace) -> Outcome:
    """What an attempt came to that is still open at the end of its request."""
    exchange = trace.exchange
    if trace.cut is not None:
        return "aborted"
    if exchange.response_complete and trace.error is None:  # only the worker's end of the connection was still open
        return "ok"
    if exchange.disconnected:
        return "aborted"
    if trace.first_at is not None:  # a stream that the gateway itself cut off, as at the end of a drain
        return "broken"
    return "rejected" if trace.error is not None and trace.error.blame == "caller" else "failed"


def _outcome(trace: Trace) -> str:
    if trace.exchange.disconnected and not trace.exchange.response_complete:
        return "aborted"
    if trace.error is not None and trace.dispatch is None:
        return "rejected" if trace.error.blame in ("caller", "capacity") else "failed"
    if trace.dispatch is not None and trace.dispatch.outcome is not None:
        return trace.dispatch.outcome
    return "cached"


def _may_have_worked(error: GatewayError | None) -> bool:
    """Whether the engine may have spent tokens on an attempt that failed so."""
    return isinstance(error, WorkerBroke | WorkerTimeout)
