"""From what is known of a request to the rows of its attempts in the ledger."""

from __future__ import annotations

from gateway.clock import monotonic, wall
from gateway.dispatch import Dispatch
from gateway.ledger.record import Attempt, Booking, Label, Line, Outcome
from gateway.ledger.writer import Ledger
from gateway.protocol.usage import Usage
from gateway.series import AllSeries
from gateway.trace import Admitted, Trace
from gateway.tuples import made


def book(trace: Trace, admitted: Admitted, dispatch: Dispatch, kept: AllSeries) -> Booking:
    """What an attempt that has just been opened is booked under, also from now on."""
    request = admitted.request
    dispatch.series = series = kept.find(
        trace.table.revision,
        admitted.key,
        request.endpoint.name,
        request.model,
        admitted.plan,
        dispatch.step.target,
        dispatch.backend.worker.name,
        dispatch.cost_basis,
    )
    booking = series.booking
    if request.user or request.tags:  # which may be another one's each time
        booking = Booking(series.line, Label(request.model, request.user, request.tags))
    dispatch.booking = booking
    dispatch.opened_wall = wall() - (monotonic() - dispatch.opened_at)
    return booking


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
    booking, first, request = dispatch.booking, dispatch.first_token_at, trace.request
    assert booking is not None
    assert request is not None
    duration = (monotonic() if dispatch.outcome is None else dispatch.closed_at) - dispatch.opened_at
    return made(
        Attempt,
        (
            trace.id,
            dispatch.number,
            0,
            booking.line,
            booking.label,
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


def end(ledger: Ledger, trace: Trace, dispatch: Dispatch, usage: Usage, estimated: bool) -> None:
    """Books the last attempt of a request, whose worker's status is the answer's. Most need no row for that."""
    booking, first, request, outcome = dispatch.booking, dispatch.first_token_at, trace.request, dispatch.outcome
    assert booking is not None
    assert request is not None
    assert outcome is not None
    prompt, cached, output = usage
    opened_at, status = dispatch.opened_at, trace.exchange.status
    if not ledger.end(
        booking,
        trace.id,
        dispatch.number,
        trace.started_at,
        dispatch.opened_wall,
        None if first is None else first - opened_at,
        dispatch.closed_at - opened_at,
        outcome,
        status,
        estimated,
        prompt,
        cached,
        output,
        dispatch.gpu_ns,
        dispatch.cost_nanousd,
        request.choices,
    ):
        ledger.record(closed_row(trace, dispatch, status, usage, estimated, True))


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
