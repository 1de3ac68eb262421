"""From what is known of a request to the record of how it was decided; the places are those of `explain/record.py`.

Made once per request, so by position, in one piece, and of integers, which are a third of the size of floats and of
their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.dispatch import Dispatch
from gateway.errors import GatewayError, WorkerRefused
from gateway.ledger.record import Attempt
from gateway.protocol.usage import Usage
from gateway.routing.router import spell
from gateway.routing.types import NO_PREFERENCES, Ask, Plan, Preferences, Step
from gateway.series import Ending, Series
from gateway.spelling import digits, dumps, flag, quoted, time_in_milliseconds
from gateway.trace import Trace

MOST_CANDIDATES: Final = 32  # that are kept of a request, best first
MOST_DROPPED: Final = 64
MOST_CHARS: Final = 300  # of an error's message
_MOST_SECONDS: Final = 1e6  # what is more, or no number, is kept as this
_MOST_NS: Final = 1_000_000_000_000_000
_MOST_NANOUSD: Final = 1e15
_NEVER_PLANNED: Final = b"null,null,null,null,null,null,null,[],0,[],0"


def decision(
    trace: Trace,
    series: Series,
    ending: Ending,
    request_id: bytes,
    usage: Usage,
    estimated: bool,
    cost: int,
    ttft: float | None,
    duration: float,
) -> bytes:
    """The record of a request that is over. Nothing of its prompt is in it."""
    error, ask = trace.error, trace.ask
    prompt, cached, output = usage
    if ask is None:
        asked = _NEVER_PLANNED
    else:
        plan = None if trace.admitted is None else trace.admitted.plan
        asked = of_plan(ask, plan, () if error is None else error.dropped, trace.dispatch)
    return b'["%b",%b,%b,%b,%b,%b,%b,%b,%b,%b,%d,%b,%d,%b,[%b],%b]' % (
        request_id,
        time_in_milliseconds(int(trace.started_at * 1000 + 0.5)),
        series.decided,
        ending.decided,
        b"null" if error is None else _of_error(error),
        ending.cached,
        digits(prompt),
        digits(cached),
        digits(output),
        flag(estimated),
        cost,
        b"null" if ttft is None else b"%d" % _ns(ttft),
        _ns(duration),
        digits(_ns(trace.queued)),
        _of_attempts(trace),
        asked,
    )


def of_plan(
    ask: Ask, plan: Plan | None, refused: Sequence[tuple[str, str, str]], dispatch: Dispatch | None = None
) -> bytes:
    """What the router was asked and what it decided: the last eleven places. `refused` are the workers that it left out
    where that was all; `dispatch` an attempt of the plan, whose series has the names as they are written here."""
    wishes = ask.preferences
    output, usual = ask.output_tokens, ask.usual_output_tokens
    route = b"null,null"
    steps: tuple[Step, ...] = ()
    dropped: Sequence[tuple[str, str, str]] = refused
    series = None if dispatch is None else dispatch.series
    if plan is not None:
        route = b"%b,%b" % (quoted(plan.route.name), quoted(plan.reason)) if series is None else series.decided_by
        steps, dropped = plan.steps, plan.dropped
    more_steps, more_dropped = len(steps) - MOST_CANDIDATES, len(dropped) - MOST_DROPPED
    candidates = [_of_step(step, dispatch) for step in (steps if more_steps <= 0 else steps[:MOST_CANDIDATES])]
    left_out = b"[]"
    if dropped:
        left_out = dumps([[worker, target, why] for worker, target, why in dropped[:MOST_DROPPED]])
    return b"%b,%b,%b,%b,%b,%b,[%b],%b,%b,%b" % (
        quoted(ask.model) if series is None else series.asked,
        digits(ask.prompt_tokens),
        digits(output),
        digits(output if output < usual else usual),
        b"null" if wishes is NO_PREFERENCES else _of_preferences(wishes),
        route,
        b",".join(candidates),
        digits(more_steps if more_steps > 0 else 0),
        left_out,
        digits(more_dropped if more_dropped > 0 else 0),
    )


def _of_step(step: Step, dispatch: Dispatch | None) -> bytes:
    nanousd, terms = step.nanousd, step.terms
    series = dispatch.series if dispatch is not None and dispatch.step is step else None
    if series is not None:
        tried = series.tried
    else:
        tried = b"%b,%b" % (quoted(step.view.worker.name), quoted(spell(step.target)))
    return b"[%b,%d,%d,%d,%b,%b,%d,%d,%b,%d,%b,%b]" % (  # %d where large, %b of `digits` where small or mostly 0
        tried,
        _ns(step.seconds),
        _ns(step.ttft_seconds),
        int(nanousd) if nanousd < _MOST_NANOUSD else _MOST_NS,
        digits(step.cached_tokens),
        digits(_ns(terms.queue_seconds)),  # from here on as `Terms.by_name` has them
        _ns(terms.prefill_seconds),
        _ns(terms.others_seconds),
        digits(_ns(terms.adapter_seconds)),
        _ns(terms.decode_seconds),
        digits(_ns(terms.kv_seconds)),
        digits(_ns(terms.price_seconds)),
    )


def _of_preferences(wishes: Preferences) -> bytes:
    fields = {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in zip(Preferences._fields, wishes, strict=True)
        if value is not None
    }
    text: bytes = dumps(fields)
    return text


def _of_error(error: GatewayError) -> bytes:
    """A worker's refusal may quote the prompt: its words are left out."""
    message = None if isinstance(error, WorkerRefused) else error.message[:MOST_CHARS]
    text: bytes = dumps([error.code, message])
    return text


def _of_attempts(trace: Trace) -> bytes:
    """Joined, the last of them last."""
    dispatch = trace.dispatch
    last = b"" if dispatch is None else _of_dispatch(trace, dispatch)
    if not trace.others:
        return last
    before = b",".join([_of_row(row, trace.started_at) for row in trace.others])
    return b"%b,%b" % (before, last) if last else before


def _of_dispatch(trace: Trace, dispatch: Dispatch) -> bytes:
    first, opened, series, outcome = dispatch.first_token_at, dispatch.opened_at, dispatch.series, dispatch.outcome
    worker = quoted(dispatch.backend.worker.name) if series is None else series.worker
    return b"[%b,%b,%d,%b,%d,%b,%b,%d]" % (
        digits(dispatch.number),
        worker,
        _ns(opened - trace.exchange.arrived),
        b"null" if first is None else b"%d" % _ns(first - opened),
        _ns(dispatch.closed_at - opened),
        b"null" if outcome is None else quoted(outcome),
        digits(trace.exchange.status),
        dispatch.cost_nanousd,
    )


def _of_row(row: Attempt, started_at: float) -> bytes:
    ttft = row.ttft_seconds
    return b"[%d,%b,%d,%b,%d,%b,%d,%d]" % (
        row.number,
        quoted(row.line.worker),
        _ns(row.opened_at - started_at),
        b"null" if ttft is None else b"%d" % _ns(ttft),
        _ns(row.duration_seconds),
        quoted(row.outcome),
        row.status,
        row.cost_nanousd,
    )


def _ns(seconds: float) -> int:
    return int(seconds * 1e9) if seconds < _MOST_SECONDS else _MOST_NS
