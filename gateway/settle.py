"""The end of every request: what it used is charged, recorded, counted and logged, once and without waiting.

Charging and recording happen at once, counting and logging at the end of the loop's turn: done for all requests that
ended in it one after another, that takes 4 us less of each, for the processor's caches hold the code by then.
"""

from __future__ import annotations

import asyncio
import logging

from gateway.clock import monotonic, wall
from gateway.decision import decision
from gateway.dispatch import Dispatch
from gateway.errors import GatewayError, WorkerBroke, WorkerRefused, WorkerTimeout
from gateway.explain.ring import Ring
from gateway.ledger.record import Attempt, Outcome
from gateway.ledger.writer import Ledger
from gateway.logs import LogWriter, Prompts, masked, prompt_for_log
from gateway.protocol.endpoints import ENDPOINTS
from gateway.protocol.usage import NO_USAGE, Usage
from gateway.routing.line import Ticket
from gateway.routing.router import spell
from gateway.rows import book, cache_row, closed_row, row
from gateway.spans import Spans
from gateway.table import PRIORITIES
from gateway.telemetry import Labels, Metrics
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
        self._settled: list[_Settled] = []  # in this turn of the loop
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
            for one in self._rows(trace, trace.admitted, usage, estimated):
                self._ledger.record(one)
                cost += one.cost_nanousd
            tokens = 0 if trace.cache == "hit" else usage.prompt_tokens + usage.output_tokens
            trace.admitted.lease.settle(tokens, cost, wall(), trace.started_at)
        if not self._settled:
            trace.exchange.loop.call_soon(self._report_all)  # to ask for the running one is a call of the kernel
        duration = monotonic() - trace.exchange.arrived
        self._settled.append((trace, usage, estimated, cost, _outcome(trace), duration))

    def begun(self, trace: Trace, admitted: Admitted, dispatch: Dispatch) -> None:
        """The intent of an attempt, to be told before its worker hears of it."""
        line, label = book(admitted, dispatch)
        prompt = dispatch.prompt_tokens
        cost = 0
        if dispatch.cost_basis == "token_price":
            _, cost = dispatch.so_far(dispatch.opened_at, made(Usage, (prompt, 0, 0)))
        number, opened_at, choices = dispatch.number, dispatch.opened_wall, admitted.request.choices
        self._ledger.begin(trace.id, number, line, label, trace.started_at, opened_at, prompt, cost, choices)
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

    def _rows(self, trace: Trace, admitted: Admitted, usage: Usage, estimated: bool) -> list[Attempt]:
        rows = trace.others
        dispatch = trace.dispatch
        if dispatch is not None:
            self._open.pop(dispatch, None)
            self._metrics.attempted(dispatch.backend.worker.name, dispatch.outcome or "")
            return [*rows, closed_row(trace, dispatch, trace.exchange.status, usage, estimated, True)]
        if trace.cache == "hit":
            return [*rows, cache_row(trace, admitted, usage)]
        return [*rows[:-1], rows[-1]._replace(final=True)] if rows else rows

    def _report_all(self) -> None:
        settled, self._settled = self._settled, []
        for one in settled:
            try:
                self._report(*one)
            except Exception:  # a fault of ours; what others did is still to be told
                logger.exception("request not reported", extra={"fields": {"request_id": one[0].id}})

    def _report(self, trace: Trace, usage: Usage, estimated: bool, cost: int, outcome: str, duration: float) -> None:
        exchange, dispatch, request, error = trace.exchange, trace.dispatch, trace.request, trace.error
        plan = None if trace.admitted is None else trace.admitted.plan
        overhead = None
        if trace.answered_at is not None and dispatch is not None:
            overhead = max(0.0, trace.answered_at - exchange.arrived - trace.waited)
        ttft = None if trace.first_at is None else trace.first_at - exchange.arrived
        target = None if plan is None else (plan.steps[0] if dispatch is None else dispatch.step).target
        tenant = "" if trace.key is None else trace.key.tenant.name
        route = "" if plan is None else plan.route.name
        status = exchange.status or CLIENT_LEFT
        endpoint = ENDPOINTS[exchange.path].name if exchange.path else ""  # a head that was not understood
        model, version = ("", "") if target is None else (target.model, target.version or "")
        used = NO_USAGE if trace.cache == "hit" else usage
        ratio = 0.0
        if dispatch is not None and dispatch.step.ttft_seconds > 0.0:
            first = dispatch.first_token_at
            if first is not None:
                ratio = (first - dispatch.opened_at) / dispatch.step.ttft_seconds
        self._metrics.finished(
            made(Labels, (tenant, model, version, route, endpoint, status)),
            cache=trace.cache,
            duration=duration,
            overhead=overhead,
            ttft=ttft,
            ttft_ratio=ratio,
            prompt=used.prompt_tokens,
            cached=used.cached_tokens,
            output=used.output_tokens,
            cost_nanousd=cost,
        )
        if self._spans is not None:
            self._spans.request(trace, duration=duration, status=status, tokens=used, cost=cost)
        line: dict[str, object] = {
            "time": trace.started_at,
            "level": "info" if error is None or error.blame == "caller" else "warning",
            "event": "request",
            "request_id": trace.id,
            "tenant": tenant,
            "key": "" if trace.key is None else trace.key.id,
            "endpoint": endpoint,
            "model_asked": "" if request is None else request.model,
            "model": "" if target is None else spell(target),
            "route": route,
            "reason": "" if plan is None else plan.reason,
            "worker": "" if dispatch is None else dispatch.backend.worker.name,
            "attempts": trace.asked,
            "cache": trace.cache,
            "stream": request is not None and request.stream,
            "status": status,
            "outcome": outcome,
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "output_tokens": usage.output_tokens,
            "estimated": estimated,
            "ttft_ms": _milliseconds(ttft),
            "duration_ms": _milliseconds(duration),
            "overhead_ms": _milliseconds(overhead),
            "cost_usd": cost / 1e9,
            "config": trace.table.revision,
        }
        if error is not None:
            line["error"] = _for_log(error, trace.table.settings.log.prompts)
        if trace.others:
            line["other_attempts"] = [
                {"worker": one.line.worker, "outcome": one.outcome, "status": one.status} for one in trace.others
            ]
        if trace.ticket is not None:
            self._report_wait(trace, trace.ticket, line)
        if request is not None and request.fields is not None:
            line["parameters"] = masked(request.fields)
            prompt = prompt_for_log(request.fields, trace.table.settings.log.prompts)
            if prompt is not None:
                line["prompt"] = prompt
        self._log.write(line)
        if self._decisions is not None:
            self._decisions.append(
                decision(
                    trace,
                    tenant=tenant,
                    endpoint=endpoint,
                    status=status,
                    outcome=outcome,
                    usage=used,
                    estimated=estimated,
                    cost=cost,
                    ttft=ttft,
                    duration=duration,
                )
            )

    def _report_wait(self, trace: Trace, ticket: Ticket, line: dict[str, object]) -> None:
        priority = PRIORITIES[ticket.claim.rank]
        line["priority"] = priority
        line["queued_ms"] = _milliseconds(trace.queued)
        line["queue_position"] = ticket.position
        line["queue_expected_ms"] = _milliseconds(ticket.expected)
        self._metrics.queued(priority, ticket.position, ticket.expected, trace.queued)


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


def _for_log(error: GatewayError, prompts: Prompts) -> dict[str, object]:
    """An error with the engine's own words about it, but no prompt: an engine that refuses one may quote it."""
    fields = error.fields()
    if isinstance(error, WorkerRefused) and prompts != "full":
        fields["message"] = f"<{len(error.message)} chars>"
    notes: list[str] | None = getattr(error, "__notes__", None)
    if notes:
        fields["notes"] = notes
    return fields


def _milliseconds(seconds: float | None) -> float | None:
    """To the microsecond; `round` to a number of digits takes four times as long."""
    return None if seconds is None else int(seconds * 1e6 + 0.5) / 1e3


def _may_have_worked(error: GatewayError | None) -> bool:
    """Whether the engine may have spent tokens on an attempt that failed so."""
    return isinstance(error, WorkerBroke | WorkerTimeout)
