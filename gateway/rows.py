"""From what is known of a request to the rows of its attempts in the ledger."""

from __future__ import annotations

from gateway.clock import monotonic, wall
from gateway.dispatch import Dispatch
from gateway.ledger.record import Attempt, Label, Line, Outcome
from gateway.protocol.usage import Usage
from gateway.trace import Admitted, Trace
from gateway.tuples import made


def book(admitted: Admitted, dispatch: Dispatch) -> tuple[Line, Label]:
    """What an attempt that has just been opened is booked under, also from now on."""
    dispatch.line = line = _line(admitted, dispatch)
    request = admitted.request
    dispatch.label = label = made(Label, (request.model, request.user, request.tags))
    dispatch.opened_wall = wall() - (monotonic() - dispatch.opened_at)
    return line, label


def _line(admitted: Admitted, dispatch: Dispatch) -> Line:
    target = dispatch.step.target
    return made(
        Line,
        (
            admitted.key.tenant.name,
            admitted.key.id,
            admitted.request.endpoint.name,
            target.model,
            target.version or "",
            target.adapter or "",
            admitted.plan.route.name,
            dispatch.backend.worker.name,
            dispatch.cost_basis,
        ),
    )


def row(
    trace: Trace,
    dispatch: Dispatch,
    outcome: Outcome,
    status: int,
    usage: Usage,
    estimated: bool,
    gpu_ns: int,
    cost_nanousd: int,
    final: bool,
) -> Attempt:
    """Of an attempt whose intent is written, as it stands now."""
    line, label, first, request = dispatch.line, dispatch.label, dispatch.first_token_at, trace.request
    assert line is not None
    assert label is not None
    assert request is not None
    duration = (monotonic() if dispatch.outcome is None else dispatch.closed_at) - dispatch.opened_at
    return made(
        Attempt,
        (
            trace.id,
            dispatch.number,
            0,
            line,
            label,
            trace.started_at,
            dispatch.opened_wall,
            None if first is None else first - dispatch.opened_at,
            duration,
            outcome,
            status,
            estimated,
            final,
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.output_tokens,
            gpu_ns,
            cost_nanousd,
            request.choices,
        ),
    )


def closed_row(trace: Trace, dispatch: Dispatch, status: int, usage: Usage, estimated: bool, final: bool) -> Attempt:
    """Of one that has ended; `final` when it is the last of its request."""
    outcome = dispatch.outcome
    assert outcome is not None
    gpu_ns, cost = dispatch.gpu_ns, dispatch.cost_nanousd
    return row(trace, dispatch, outcome, status, usage, estimated, gpu_ns, cost, final)


def cache_row(trace: Trace, admitted: Admitted, usage: Usage) -> Attempt:
    """Of an answer that no worker was asked for."""
    key, request, target = admitted.key, admitted.request, admitted.plan.steps[0].target
    version, adapter, route = target.version or "", target.adapter or "", admitted.plan.route.name
    duration = monotonic() - trace.exchange.arrived
    return Attempt(
        trace.id,
        0,
        0,
        Line(key.tenant.name, key.id, request.endpoint.name, target.model, version, adapter, route, "", "none"),
        Label(request.model, request.user, request.tags),
        trace.started_at,
        wall() - duration,
        None,
        duration,
        "cached",
        trace.exchange.status,
        False,
        True,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        0,
        0,
        request.choices,
    )
