"""/admin/v1/keys: the API keys, those of the YAML to be seen and those of the store to be made, rotated and revoked.

A secret is in the answer that made it and nowhere else. What is done here counts in this process at once and in every
other within a second.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.responses import Response

from gateway.api.guard import admin_only
from gateway.api.json import Json
from gateway.api.ports import GatewayPort
from gateway.config.draft import draft
from gateway.config.keys import key_place
from gateway.config.problems import did_you_mean
from gateway.config.source import read
from gateway.config.units import UnitError, parse_span
from gateway.config.written.base import Asked, Name, Written
from gateway.config.written.tenants import EndpointName, Limits, Priority
from gateway.errors import BadRequest, Conflict, NotFound, Overloaded
from gateway.keyring import desk
from gateway.keyring.listing import Row, row, rows
from gateway.keyring.store import StoreAway
from gateway.routing.names import Names
from gateway.table import Limits as TableLimits
from gateway.table import Table

RETRY_SECONDS = 2.0


class NewKey(Written):
    """A key to be made; what is left out does not restrict it further than its tenant."""

    tenant: Name = Field(description="Whose it is; a tenant of the configuration", examples=["support"])
    id: Name | None = Field(default=None, description="What logs call it; left out: key-1, key-2, …", examples=["prod"])
    models: list[Asked] | None = Field(default=None, description="What it may ask for", examples=[["chat-8b"]])
    endpoints: list[EndpointName] | None = Field(
        default=None, description="What it may call", examples=[["chat.completions"]]
    )
    expires: str | None = Field(
        default=None,
        description="When it ends: a span from now, a day, or a time in UTC",
        examples=["30d", "2027-01-31"],
    )
    limits: Limits = Field(default_factory=Limits, description="How much of its tenant's limits it may use")
    priority: Priority | None = Field(default=None, description="Its class when workers are busy", examples=["batch"])


class Rotation(Written):
    grace: str = Field(
        default=desk.GRACE,
        description="How long the secret in use is still let in; 0s ends it, and every earlier one, at once",
        examples=["24h"],
    )


def router(gateway: GatewayPort) -> APIRouter:
    routes = APIRouter(prefix="/admin/v1/keys", tags=["Admin"], dependencies=[Depends(admin_only(gateway))])

    @routes.get("", summary="API keys")
    async def keys(  # pyright: ignore[reportUnusedFunction]
        tenant: Annotated[str | None, Query(description="Only of this tenant")] = None,
    ) -> Response:
        """Every key: of the YAML and of the store, the revoked and expired ones of the last 30 days too. `state` is
        active, expired, revoked, `no_tenant` (the YAML has no such tenant) or `shadowed` (the YAML has a key of that id
        or secret); only an active one is let in. `last_used` is about 5 s behind for what other processes served."""
        ring, table = gateway.keyring, gateway.table
        uses = await ring.uses()
        found = rows(table.keys.values(), ring.records.values(), table.tenants, ring.shadowed, uses, time.time())
        store = {"place": ring.store.place, "up": not ring.away, "error": ring.away or None}
        return Json({"keys": [one for one in found if tenant in (None, one["tenant"])], "store": store})

    @routes.post("", summary="Make an API key", status_code=201)
    async def create(body: NewKey) -> Response:  # pyright: ignore[reportUnusedFunction]
        """A key in the store. `key` in the answer is the secret, shown only there."""
        table, limits = gateway.table, body.limits
        if body.tenant not in table.tenants:
            raise NotFound(
                f"There is no tenant `{body.tenant}`: {did_you_mean(body.tenant, table.tenants, 'write one first')}",
                param="tenant",
                code="tenant_not_found",
            )
        _known(table, body.models or [])
        wanted = desk.Wanted(
            tenant=body.tenant,
            id=body.id,
            models=None if body.models is None else frozenset(body.models),
            endpoints=None if body.endpoints is None else frozenset[str](body.endpoints),
            expires=None if body.expires is None else _ending(body.expires),
            limits=TableLimits(limits.rpm, limits.tpm, limits.concurrency),
            priority=body.priority,
        )
        written = {key.id for key in table.keys.values() if key.tenant.name == body.tenant}
        try:
            made = await desk.create(gateway.keyring.store, wanted, written)
        except StoreAway as error:
            raise _away(error) from None
        await gateway.keyring.refresh()
        answer = Json(_with_secret(made))
        answer.status_code = 201
        return answer

    @routes.post("/{tenant}/{key_id}/rotate", summary="Give an API key a new secret")
    async def rotate(tenant: str, key_id: str, body: Rotation | None = None) -> Response:  # pyright: ignore[reportUnusedFunction]
        """The same key with a new secret, `key` in the answer. The earlier one is let in for `grace` more."""
        try:
            grace = parse_span((body or Rotation()).grace)
        except UnitError as error:
            raise BadRequest(f"`grace`: {error}.", param="grace") from None
        await _refuse_written(gateway.table, tenant, key_id)
        try:
            made = await desk.rotate(gateway.keyring.store, tenant, key_id, grace)
        except StoreAway as error:
            raise _away(error) from None
        await gateway.keyring.refresh()
        return Json(_with_secret(made))

    @routes.delete("/{tenant}/{key_id}", summary="Revoke an API key")
    async def revoke(tenant: str, key_id: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        """It is let in no more, for good; its requests under way finish. Revoking it again changes nothing and answers
        the same; a key that never was is a 404."""
        await _refuse_written(gateway.table, tenant, key_id)
        try:
            record = await desk.revoke(gateway.keyring.store, tenant, key_id)
        except StoreAway as error:
            raise _away(error) from None
        await gateway.keyring.refresh()
        return Json(row(record, time.time()))

    return routes


def _with_secret(made: desk.Made) -> Row:
    return {"key": made.key, **row(made.record, time.time())}


def _known(table: Table, models: list[str]) -> None:
    names = Names(table)
    for asked in models:
        if asked not in table.aliases and asked not in names.virtual and names.find(asked) is None:
            remedy = did_you_mean(asked, [*table.models, *table.aliases, *names.virtual], "there is none")
            raise BadRequest(f"`models`: no model is called `{asked}`: {remedy}", param="models")


def _ending(text: str) -> float:
    try:
        return desk.ending(text, time.time())
    except UnitError as error:
        raise BadRequest(f"`expires`: {error}.", param="expires") from None


async def _refuse_written(table: Table, tenant: str, key_id: str) -> None:
    """A key of the YAML is changed there."""
    if any((key.tenant.name, key.id) == (tenant, key_id) for key in table.keys.values()):
        # Where it is written is looked up on disk: nobody else asks, so the table does not carry it.
        on_disk: Any = await asyncio.to_thread(lambda: draft(read(table.directory, os.environ)))
        raise Conflict(desk.written(tenant, key_id, key_place(on_disk, tenant, key_id)), code="key_in_yaml")


def _away(error: StoreAway) -> Overloaded:
    return Overloaded(f"Nothing was changed: {error}.", retry_after=RETRY_SECONDS)
