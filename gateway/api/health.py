"""/healthz, and /health as engines call it: the process lives. /readyz: it can serve."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from gateway.api.json import Json
from gateway.api.ports import GatewayPort
from gateway.fleet.readiness import unserved


def router(gateway: GatewayPort) -> APIRouter:
    routes = APIRouter(tags=["Health"])

    @routes.get("/health", include_in_schema=False)
    @routes.get("/healthz", summary="Is the process alive")
    async def healthz() -> Response:  # pyright: ignore[reportUnusedFunction]
        """200 as long as the process answers at all, whatever its workers do."""
        return Json({"status": "ok"})

    @routes.get("/readyz", summary="Can it serve", responses={503: {"description": "Some model has no worker"}})
    async def readyz() -> Response:  # pyright: ignore[reportUnusedFunction]
        """200 when each model that routes lead to, or that has workers, has at least one that has answered a real
        inference and takes requests; otherwise 503 with the models that have none. `/admin/v1/workers` says why.
        503 as well while the gateway finishes what is under way before it ends."""
        if gateway.draining:
            return Json({"status": "draining"}, 503)
        missing = unserved(gateway.table, gateway.fleet.views)
        if not missing:
            return Json({"status": "ready"})
        return Json({"status": "not ready", "missing": sorted(missing)}, 503)

    return routes
