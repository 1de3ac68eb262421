"""/v1/models: the names a tenant may ask for, in OpenAI's shape."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.json import Json
from gateway.api.ports import GatewayPort
from gateway.errors import NotFound
from gateway.routing.names import Names, parse
from gateway.table import Candidate, Key, Model, Route, Table, Tenant
from gateway.tenancy.access import may_use
from gateway.tenancy.keys import authenticate


def router(gateway: GatewayPort) -> APIRouter:
    routes = APIRouter(tags=["Models"])
    started_at = int(time.time())

    @routes.get("/v1/models", summary="List models")
    async def list_models(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """What the key may put into a request's `model`: models, versions, adapters, aliases and the names
        that routes match."""
        table = gateway.table
        key = authenticate(request.scope["headers"], gateway.keys, time.time())
        return Json({"object": "list", "data": [_card(name, started_at) for name in listing(table, key)]})

    @routes.get("/v1/models/{model:path}", summary="Retrieve a model")
    async def retrieve_model(model: str, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """One of the list; a version's adapter (`model@version:adapter`) is found as well."""
        table = gateway.table
        key = authenticate(request.scope["headers"], gateway.keys, time.time())
        found = find(table, key, model)
        if found is None:
            raise NotFound(f"The model `{model}` does not exist or you do not have access to it.", param="model")
        return Json(_card(found, started_at))

    return routes


class Name(NamedTuple):
    """One name and what it stands for; `target` is None for a name that only routes know."""

    id: str
    kind: str
    target: Candidate | None
    model: Model | None


def listing(table: Table, key: Key) -> list[Name]:
    """Everything `key` may ask for that has a worker."""
    served = {(worker.model, worker.version) for worker in table.workers.values()}
    return [name for name in _names(table) if _is_served(table, name, served) and _may_ask(table, key, name)]


def find(table: Table, key: Key, asked: str) -> Name | None:
    for name in listing(table, key):
        if name.id == asked:
            return name
    target = parse(asked, table.models)
    if target is None or not (target.version and target.adapter):
        return None
    name = Name(asked, "adapter", target, table.models[target.model])
    served = {(worker.model, worker.version) for worker in table.workers.values()}
    return name if _is_served(table, name, served) and _may_ask(table, key, name) else None


def _names(table: Table) -> Iterator[Name]:
    for model in table.models.values():
        yield Name(model.name, "model", Candidate(model.name, None), model)
        for version in model.versions:
            yield Name(f"{model.name}@{version}", "version", Candidate(model.name, version), model)
        for adapter in model.adapters:
            yield Name(f"{model.name}:{adapter}", "adapter", Candidate(model.name, None, adapter), model)
    names = Names(table)
    for alias in table.aliases:
        target = names.find(alias)
        yield Name(alias, "alias", target, table.models[target.model] if target else None)
    for virtual in sorted(names.virtual):
        yield Name(virtual, "route", None, None)


def _is_served(table: Table, name: Name, served: set[tuple[str, str]]) -> bool:
    target = name.target
    if target is None:
        return True  # its candidates are looked at one by one
    return any(target.model == model and target.version in (None, version) for model, version in served)


def _may_ask(table: Table, key: Key, name: Name) -> bool:
    if name.target is not None:
        return _may_reach(table, key, name.target, name.id)
    return any(
        _may_reach(table, key, candidate, name.id)
        for route in table.routes
        if _takes(route, key.tenant, {name.id, _end(name.id, table)})
        for candidate in (*route.candidates, *route.fallback)
    )


def _end(alias: str, table: Table) -> str:
    """The name an alias of a virtual name stands for; the configuration has no circles."""
    return _end(table.aliases[alias], table) if alias in table.aliases else alias


def _takes(route: Route, tenant: Tenant, names: set[str]) -> bool:
    """Whether some request of this tenant under one of these names could match the route."""
    match = route.match
    return (
        (match.models is not None and not names.isdisjoint(match.models))
        and (match.tenants is None or tenant.name in match.tenants)
        and (match.tiers is None or tenant.tier in match.tiers)
    )


def _may_reach(table: Table, key: Key, target: Candidate, asked: str) -> bool:
    model = table.models[target.model]
    adapter = model.adapters[target.adapter] if target.adapter else None
    return may_use(key, model, adapter, asked)


def _card(name: Name, created: int) -> dict[str, Any]:
    """OpenAI's fields first; clients ignore the rest or are glad of it."""
    card: dict[str, Any] = {
        "id": name.id,
        "object": "model",
        "created": created,
        "owned_by": "tollgate",
        "kind": name.kind,
    }
    target, model = name.target, name.model
    if target is None or model is None:
        return card
    card["task"] = model.task
    card["context_window"] = card["max_model_len"] = model.context
    if name.kind != "model":
        card["root"] = target.model
    if name.kind == "alias":
        adapter, version = target.adapter, target.version
        card["target"] = target.model + (f"@{version}" if version else "") + (f":{adapter}" if adapter else "")
    if target.version:
        version = model.versions[target.version]
        card["quantization"], card["quality"] = version.quantization, version.quality
    return card
