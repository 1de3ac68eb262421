"""The control plane as one application."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI

from gateway.api import adapters, admin, decisions, docs, errors, health, keys, limits, metrics, models, openapi
from gateway.api.asgi import Methods, RequestIds
from gateway.api.ports import GatewayPort


def create_control_plane(gateway: GatewayPort) -> FastAPI:
    """Everything the gateway answers itself. It reads `gateway` anew for each request."""
    app = FastAPI(
        title="Tollgate",
        version=_version(),
        docs_url=None,  # FastAPI's pages load their script from a CDN
        redoc_url=None,
        redirect_slashes=False,
    )
    for routes in (
        health.router(gateway),
        metrics.router(gateway),
        models.router(gateway),
        admin.router(gateway),
        adapters.router(gateway),
        decisions.router(gateway),
        keys.router(gateway),
        limits.router(gateway),
        docs.router(app),
    ):
        app.include_router(routes)
    errors.install(app)
    openapi.install(app)
    app.add_middleware(Methods, routes=app.routes)
    app.add_middleware(RequestIds)
    return app


def _version() -> str:
    try:
        return version("tollgate")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
