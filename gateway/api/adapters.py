"""/admin/v1/adapters: the LoRA adapters, those of the YAML to be seen and others to be added and removed.

What is done here counts in this process at once and in every other within 2 s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.responses import Response

from gateway.api.guard import admin_only
from gateway.api.json import Json
from gateway.api.ports import GatewayPort
from gateway.config.problems import did_you_mean
from gateway.config.written.base import ModelName, Name, Text, Written
from gateway.errors import BadRequest, Conflict, Forbidden, NotFound, Overloaded
from gateway.fleet.adapter_check import NotAnAdapter, examine, resolve
from gateway.fleet.added import MOST_ADDED, AdapterName, Added, Entry
from gateway.fleet.backend import Backend
from gateway.fleet.registry import Fleet
from gateway.state.adapters import AdaptersAway
from gateway.table import Adapter, Table

RETRY_SECONDS = 2.0
EXAMINED_AT_ONCE = 2
NO_DIRECTORIES = (
    "No adapter can be added here: the configuration allows no directory for them. Write one into gateway.yaml: "
    "`adapters: {directories: [/srv/adapters]}`, a path that the gateway and its workers have in common."
)


class NewAdapter(Written):
    """An adapter to be added; what is left out is as in models.yaml."""

    model: ModelName = Field(description="Which model it is on", examples=["chat-8b"])
    name: Name = Field(description="Asked for as model:name", examples=["support"])
    path: Text = Field(
        description="Its directory as PEFT saves it, with safetensors, beneath one of `adapters.directories`",
        examples=["/srv/adapters/support-v3"],
    )
    tenants: list[Name] | None = Field(
        default=None, min_length=1, description="Who may use it; left out: everyone", examples=[["support"]]
    )
    version: Name | None = Field(
        default=None, description="Left out: a digest of the path and the files", examples=["v3"]
    )


def router(gateway: GatewayPort) -> APIRouter:
    routes = APIRouter(prefix="/admin/v1/adapters", tags=["Admin"], dependencies=[Depends(admin_only(gateway))])
    examining = asyncio.Semaphore(EXAMINED_AT_ONCE)

    @routes.get("", summary="LoRA adapters")
    async def adapters(  # pyright: ignore[reportUnusedFunction]
        model: Annotated[str | None, Query(description="Only of this model")] = None,
    ) -> Response:
        """Every adapter, of the YAML and added by the API: where it is loaded and where that failed, as this gateway
        process knows it. One that does not count (`in_effect` false) says why in `why`."""
        rows = _rows(gateway)
        return Json(
            {
                "adapters": [row for row in rows if model in (None, row["model"])],
                "directories": list(gateway.table.settings.adapter_directories),
                "store": {"up": not gateway.added.away, "error": gateway.added.away or None},
            }
        )

    @routes.post("", summary="Add a LoRA adapter", status_code=201)
    async def add(body: NewAdapter) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Its files are examined, then it may be asked for as `model:name`. Adding the same again answers 200 and
        changes nothing; another one under its name is a 409."""
        table, key = gateway.table, AdapterName(body.model, body.name)
        _known(table, body)
        _not_written(gateway.added, key)
        directories = table.settings.adapter_directories
        if not directories:
            raise Forbidden(NO_DIRECTORIES, code="adapter_directories_closed")
        try:
            async with examining:
                path = await asyncio.to_thread(_examined, body.path, directories)
        except NotAnAdapter as error:
            raise BadRequest(f"`{key}` is not added: {error}.", param="path", code="adapter_refused") from None
        was_there = key in gateway.added.adapters
        if not was_there and len(gateway.added.adapters) >= MOST_ADDED:
            raise Conflict(f"There are {MOST_ADDED} added adapters already: remove some.", code="too_many_adapters")
        entry = Entry(model=key.model, name=key.name, path=path, tenants=body.tenants, version=body.version)
        try:
            is_kept = await gateway.added.add(entry)
        except AdaptersAway as error:
            raise _away(error) from None
        if not is_kept:
            raise Conflict(
                f"There is another `{key}`, with other content: remove it first, with DELETE "
                f"/admin/v1/adapters/{key.model}/{key.name}, or choose another name.",
                param="name",
                code="adapter_exists",
            )
        found = [row for row in _rows(gateway) if (row["model"], row["name"], row["source"]) == (*key, "api")]
        answer = Json(found[0] if found else entry.model_dump())
        answer.status_code = 200 if was_there else 201
        return answer

    @routes.delete("/{model:path}/{name}", summary="Remove a LoRA adapter")
    async def remove(model: str, name: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        """One that was added by the API: its requests under way finish, new ones are a 404, and workers unload it."""
        key = AdapterName(model, name)
        if key not in gateway.added.adapters:
            _not_written(gateway.added, key)
        try:
            was_there = await gateway.added.remove(key)
        except AdaptersAway as error:
            raise _away(error) from None
        if not was_there:
            raise NotFound(
                f"There is no added adapter `{str(key)[:200]}`; GET /admin/v1/adapters shows them.",
                param="name",
                code="adapter_not_found",
            )
        return Json({"model": model, "name": name, "removed": True})

    return routes


def _examined(path: str, directories: Collection[str]) -> str:
    real = resolve(path, directories)
    examine(real)
    return real


def _known(table: Table, body: NewAdapter) -> None:
    if body.model not in table.models:
        remedy = did_you_mean(body.model, table.models, "write one first")
        raise NotFound(f"There is no model `{body.model}`: {remedy}", param="model")
    for tenant in body.tenants or ():
        if tenant not in table.tenants:
            remedy = did_you_mean(tenant, table.tenants, "write one first")
            raise NotFound(f"There is no tenant `{tenant}`: {remedy}", param="tenants", code="tenant_not_found")


def _not_written(added: Added, key: AdapterName) -> None:
    """What the YAML has is changed there."""
    if added.is_written(key):
        raise Conflict(
            f"`{key}` is an adapter of the YAML: change it there, under `models.{key.model}.adapters.{key.name}`.",
            param="name",
            code="adapter_in_yaml",
        )
    if str(key) in added.written.aliases:
        raise Conflict(f"`{key}` is an alias of the YAML: choose another name.", param="name", code="adapter_in_yaml")


def _away(error: AdaptersAway) -> Overloaded:
    return Overloaded(f"Nothing was changed: {error}.", retry_after=RETRY_SECONDS)


def _rows(gateway: GatewayPort) -> list[dict[str, Any]]:
    added, now = gateway.added, time.monotonic()
    found = [
        {**_row(model.name, adapter, "api" if adapter.examined else "yaml"), **_whereabouts(gateway.fleet, key, now)}
        for model in gateway.table.models.values()
        for adapter in model.adapters.values()
        for key in (AdapterName(model.name, adapter.name),)
    ]
    for key, why in added.idle.items():
        adapter = added.adapters.get(key)
        if adapter is not None:
            idle: dict[str, Any] = {"in_effect": False, "why": why, "workers": [], "failures": []}
            found.append({**_row(key.model, adapter, "api"), **idle})
    return found


def _row(model: str, adapter: Adapter, source: str) -> dict[str, Any]:
    return {
        "id": f"{model}:{adapter.name}",
        "model": model,
        "name": adapter.name,
        "source": source,
        "path": adapter.path,
        "version": adapter.version,
        "tenants": None if adapter.tenants is None else sorted(adapter.tenants),
        "in_effect": True,
        "why": None,
    }


def _whereabouts(fleet: Fleet, key: AdapterName, now: float) -> dict[str, Any]:
    views = fleet.views(key.model, None)
    return {
        "workers": [place for backend in views for place in _places(backend, key.name)],
        "failures": [
            {
                "worker": backend.worker.name,
                "serves": failure.name,
                "why": failure.why,
                "retry_seconds": max(0.0, failure.until - now),
            }
            for backend in views
            if backend.shelf is not None and (failure := backend.shelf.failures.get(key.name)) is not None
        ],
    }


def _places(backend: Backend, name: str) -> Iterator[dict[str, Any]]:
    """An old version may still be there beside the new one; `fixed` is one the worker was started with."""
    shelf = backend.shelf
    residents = () if shelf is None else shelf.residents.values()
    placed = [one for one in residents if one.adapter == name]
    for one in placed:
        state = "held" if one.is_held else "moving"
        yield {"worker": backend.worker.name, "serves": one.name, "state": state}
    if not placed and name in backend.adapters:
        yield {"worker": backend.worker.name, "serves": backend.adapters[name], "state": "fixed"}
