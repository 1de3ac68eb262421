"""From what is known of a request to the record of how it was decided; the places are those of `explain/record.py`.

Made once per request, so by position, and of integers, which are a third of the size of floats and of their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from gateway.errors import GatewayError, WorkerRefused
from gateway.ledger.record import Attempt
from gateway.protocol.usage import Usage
from gateway.routing.router import spell
from gateway.routing.types import NO_PREFERENCES, Ask, Plan, Preferences, Step
from gateway.trace import Trace

MOST_CANDIDATES: Final = 32  # that are kept of a request, best first
MOST_DROPPED: Final = 64
MOST_CHARS: Final = 300  # of an error's message
_MOST_SECONDS: Final = 1e6  # what is more, or no number, is kept as this
_MOST_NS: Final = 1_000_000_000_000_000
_MOST_NANOUSD: Final = 1e15


def decision(
    trace: Trace,
    *,
    tenant: str,
    endpoint: str,
    status: int,
    outcome: str,
    usage: Usage,
    estimated: bool,
    cost: int,
    ttft: float | None,
    duration: float,
) -> bytes:
    """The record of a request that is over. Nothing of its prompt is in it."""
    key, request, error, admitted = trace.key, trace.request, trace.error, trace.admitted
    return orjson.dumps(
        [
            trace.id,
            int(trace.started_at * 1000 + 0.5),
            trace.table.revision,
            tenant,
            None if key is None else key.id,
            endpoint,
            request is not None and request.stream,
            status,
            outcome,
            None if error is None else _of_error(error),
            trace.cache,
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.output_tokens,
            estimated,
            cost,
            None if ttft is None else _ns(ttft),
            _ns(duration),
            _ns(trace.queued),
            _of_attempts(trace),
            *plan_values(
                trace.ask, None if admitted is None else admitted.plan, () if error is None else error.dropped
            ),
        ]
    )


def plan_values(ask: Ask | None, plan: Plan | None, refused: Sequence[tuple[str, str, str]]) -> list[object]:
    """What the router was asked and what it decided. `refused` are the workers that it left out where that was all."""
    if ask is None:
        return [None, None, None, None, None, None, None, [], 0, [], 0]
    wishes = ask.preferences
    route = reason = None
    steps: tuple[Step, ...] = ()
    dropped: Sequence[tuple[str, str, str]] = refused
    if plan is not None:
        route, reason, steps, dropped = plan.route.name, plan.reason, plan.steps, plan.dropped
    more_steps, more_dropped = len(steps) - MOST_CANDIDATES, len(dropped) - MOST_DROPPED
    return [
        ask.model,
        ask.prompt_tokens,
        ask.output_tokens,
        min(ask.output_tokens, ask.usual_output_tokens),
        None if wishes is NO_PREFERENCES else _of_preferences(wishes),
        route,
        reason,
        [_of_step(step) for step in (steps if more_steps <= 0 else steps[:MOST_CANDIDATES])],
        0 if more_steps <= 0 else more_steps,
        [[worker, target, why] for worker, target, why in dropped[:MOST_DROPPED]] if dropped else [],
        0 if more_dropped <= 0 else more_dropped,
    ]


def _of_step(step: Step) -> list[object]:
    nanousd = step.nanousd
    return [
        step.view.worker.name,
        spell(step.target),
        _ns(step.seconds),
        _ns(step.ttft_seconds),
        int(nanousd) if nanousd < _MOST_NANOUSD else _MOST_NS,
        step.cached_tokens,
        *[_ns(seconds) for seconds in step.terms.values()],
    ]


def _of_preferences(wishes: Preferences) -> dict[str, object]:
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in zip(Preferences._fields, wishes, strict=True)
        if value is not None
    }


def _of_error(error: GatewayError) -> list[object]:
    """A worker's refusal may quote the prompt: its words are left out."""
    message = None if isinstance(error, WorkerRefused) else error.message[:MOST_CHARS]
    return [error.code, message]


def _of_attempts(trace: Trace) -> list[list[object]]:
    found = [_of_row(row, trace.started_at) for row in trace.others] if trace.others else []
    dispatch = trace.dispatch
    if dispatch is not None:
        first = dispatch.first_token_at
        opened = dispatch.opened_at
        found.append(
            [
                dispatch.number,
                dispatch.backend.worker.name,
                _ns(opened - trace.exchange.arrived),
                None if first is None else _ns(first - opened),
                _ns(dispatch.closed_at - opened),
                dispatch.outcome,
                trace.exchange.status,
                dispatch.cost_nanousd,
            ]
        )
    return found


def _of_row(row: Attempt, started_at: float) -> list[object]:
    ttft = row.ttft_seconds
    return [
        row.number,
        row.line.worker,
        _ns(row.opened_at - started_at),
        None if ttft is None else _ns(ttft),
        _ns(row.duration_seconds),
        row.outcome,
        row.status,
        row.cost_nanousd,
    ]


def _ns(seconds: float) -> int:
    return int(seconds * 1e9) if seconds < _MOST_SECONDS else _MOST_NS
