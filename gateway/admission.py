"""A planned request's place in the limits: its tenant's, its key's, and those of the model that is to answer it."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.clock import wall
from gateway.errors import RateLimited
from gateway.protocol.request import Request
from gateway.routing.types import Plan
from gateway.table import Key, Table
from gateway.tenancy import reservation
from gateway.tenancy.limiter import MemoryLimiter
from gateway.tenancy.limits import Both, Lease
from gateway.tenancy.reservation import Lengths


def admit_at_once(
    limiter: MemoryLimiter, lengths: Lengths, table: Table, request: Request, key: Key, plan: Plan
) -> Lease | None:
    """What `admit` comes to for nearly all requests, without a coroutine: the lease, for the whole plan. None where it
    takes `admit`: where models have limits of their own, or others are to be asked first. Raises as that does."""
    if key.tenant.model_limits or table.model_keys:
        return None
    tokens, money = _reserved(lengths, table, request, key, plan)
    return limiter.admit(key, plan.steps[0].target.model, tokens, money, wall())


async def admit(
    limiter: MemoryLimiter, lengths: Lengths, table: Table, request: Request, key: Key, plan: Plan
) -> tuple[Plan, Lease]:
    """The lease, and the plan as far as it holds for. Raises RateLimited, where waiting helps, or QuotaExhausted.

    A model whose own limit is full leaves the request to the others of the plan. Only the one whose place is taken, and
    those without a limit of their own, may then be asked.
    """
    limited = key.tenant.model_limits
    if not limited and not table.model_keys:
        return plan, await _lease(limiter, lengths, table, request, key, plan)
    refused: RateLimited | None = None
    for model in dict.fromkeys([step.target.model for step in plan.steps]):
        narrowed = _narrowed(plan, model, limited, table.model_keys)
        try:
            return narrowed, await _lease(limiter, lengths, table, request, key, narrowed)
        except RateLimited as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _narrowed(plan: Plan, model: str, limited: Mapping[str, object], shared: Mapping[str, object]) -> Plan:
    steps = [
        step
        for step in plan.steps
        if step.target.model == model or (step.target.model not in limited and step.target.model not in shared)
    ]
    steps.sort(key=lambda step: step.target.model != model)
    return Plan(plan.route, plan.reason, tuple(steps), plan.dropped)


def _reserved(lengths: Lengths, table: Table, request: Request, key: Key, plan: Plan) -> tuple[int, int]:
    """Tokens and money for an attempt on any of the plan's workers."""
    tenant = key.tenant
    tokens = reservation.tokens(request, lengths.expected(tenant.name, plan.steps[0].target.model))
    money = 0
    if tenant.budget is not None and tenant.budget.on_exceed == "reject":
        money = reservation.most_cost(request, plan.steps, table.models)
        if plan.route.hedge is not None:
            money *= 2  # both are paid for
    return tokens, money


async def _lease(
    limiter: MemoryLimiter, lengths: Lengths, table: Table, request: Request, key: Key, plan: Plan
) -> Lease:
    model = plan.steps[0].target.model
    tokens, money = _reserved(lengths, table, request, key, plan)
    lease = limiter.admit(key, model, tokens, money, wall())
    if lease is None:
        lease = await limiter.wait(key, model, tokens, money)
    shared = table.model_keys.get(model)
    if shared is None:
        return lease
    try:
        common = limiter.admit(shared, "", tokens, 0, wall())
        if common is None:
            common = await limiter.wait(shared, "", tokens, 0)
    except BaseException:
        lease.cancel()
        raise
    return Both(lease, common)
