"""What would become of a request that is only described: the router is asked as for a real one, and nobody else is."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple

import orjson

from gateway.decision import of_plan
from gateway.errors import BadRequest, GatewayError
from gateway.explain.record import RECORD, SCHEMA, Document, document
from gateway.fleet.registry import Fleet
from gateway.routing.router import Router
from gateway.routing.types import NO_PREFERENCES, Ask, Plan, Preferences, Task
from gateway.table import Key, Table
from gateway.tenancy.access import forbidden


class Description(NamedTuple):
    """A request in words. `output_tokens` are what the gateway expects of such a request where it is None."""

    model: str
    tenant: str
    prompt_tokens: int
    output_tokens: int | None = None
    preferences: Preferences = NO_PREFERENCES


def describe(
    what: Description, table: Table, router: Router, fleet: Fleet, usual_output: Callable[[str], float]
) -> Document:
    """The decision, without what comes after it. A refusal by the router is one too; raises `NotFound` or `BadRequest`
    where the words name nothing."""
    tenant = table.tenants.get(what.tenant)
    if tenant is None:
        known = ", ".join(sorted(table.tenants)[:20]) or "none"
        raise BadRequest(f"There is no tenant `{what.tenant[:80]}`; configured are: {known}.", param="tenant")
    key = Key("", b"", tenant)
    named = router.names.find(what.model)
    model = None if named is None else table.models[named.model]
    task: Task = "embed" if model is not None and model.task == "embed" else "generate"
    usual = 0 if task == "embed" else int(usual_output(what.model))
    most = usual if what.output_tokens is None else what.output_tokens
    ask = Ask(what.model, tenant, task, what.prompt_tokens, most, what.preferences, usual)

    resolution = router.names.resolve(ask)
    out = forbidden(key, table.models, resolution.route, ask.model)
    plan: Plan | None = None
    refusal: GatewayError | None = None
    try:
        plan = router.plan(ask, resolution, fleet.views, out, draw=random.random(), now=time.monotonic())
    except GatewayError as error:
        refusal = error
    values: dict[str, object] = {}
    values.update(dict.fromkeys(RECORD))
    asked = orjson.loads(b"[%b]" % of_plan(ask, plan, () if refusal is None else refusal.dropped))
    values.update(zip(RECORD[-len(asked) :], asked, strict=True))
    values["started_ms"] = time.time_ns() // 1_000_000
    values["config"], values["tenant"], values["attempts"] = table.revision, tenant.name, []
    if refusal is not None:
        values["error"] = [refusal.code, refusal.message]
    return document(list(values.values()), orjson.loads(SCHEMA))
