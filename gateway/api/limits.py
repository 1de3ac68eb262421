"""/admin/v1/limits: how far each tenant's limits and budget are used."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from gateway.api.guard import admin_only
from gateway.api.json import Json
from gateway.api.ports import GatewayPort
from gateway.table import Tenant
from gateway.tenancy.limits import Standing


def router(gateway: GatewayPort) -> APIRouter:
    routes = APIRouter(prefix="/admin/v1", tags=["Admin"], dependencies=[Depends(admin_only(gateway))])

    @routes.get("/limits", summary="Limits and budgets, and how far they are used")
    async def limits() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Every account that was used of late: a tenant's, its budget's, its keys' and its models'. What is left is
        over all processes, as this one last heard it (a quarter of a second ago at most while requests come);
        `in_flight` and `reserved_usd` are this process's own."""
        state, now = gateway.limiter.state, time.time()
        return Json(
            {
                "store": state.store,
                "store_away": state.is_away,
                "processes": state.processes,
                "tenants": [_tenant(tenant, gateway.limiter.standings(tenant, now)) for tenant in _sorted(gateway)],
            }
        )

    return routes


def _sorted(gateway: GatewayPort) -> list[Tenant]:
    tenants = gateway.table.accounts
    return [tenants[name] for name in sorted(tenants)]


def _tenant(tenant: Tenant, standings: list[Standing]) -> dict[str, Any]:
    return {
        "tenant": tenant.name,
        "weight": tenant.weight,
        "priority": tenant.priority,
        "accounts": [_account(one) for one in standings],
    }


def _account(one: Standing) -> dict[str, Any]:
    shown: dict[str, Any] = {"account": one.account, "in_flight": one.in_flight}
    for kind, limit, remaining in (
        ("requests_per_minute", one.requests_limit, one.requests_remaining),
        ("tokens_per_minute", one.tokens_limit, one.tokens_remaining),
        ("concurrency", one.places_limit, one.places_remaining),
    ):
        if limit is not None:
            shown[kind] = {"limit": limit, "remaining": remaining}
    if one.budget is not None and one.spent is not None and one.reserved is not None:
        shown["budget"] = {
            "usd": one.budget / 1e9,
            "spent_usd": one.spent / 1e9,
            "reserved_usd": one.reserved / 1e9,
        }
    return shown
