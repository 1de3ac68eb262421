"""/admin/v1/decisions and /admin/v1/explain: why a request went where it went, and where one would go."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.guard import admin_only
from gateway.api.json import Json
from gateway.api.ports import GatewayPort
from gateway.described import Description
from gateway.errors import BadRequest, InternalError
from gateway.explain.find import find
from gateway.routing.preferences import read_preferences

MOST_TOKENS = 100_000_000


_PARAMETERS = (
    "model",
    "tenant",
    "prompt_tokens",
    "output_tokens",
    "optimize",
    "max_ttft_ms",
    "max_price_usd_per_m",
)


def _known_parameters(request: Request) -> None:
    """A wish that is misspelt must not go unheard."""
    for name in request.query_params:
        if name not in _PARAMETERS:
            known = ", ".join(_PARAMETERS)
            raise BadRequest(f"`{name[:80]}` is no parameter here; there are: {known}.", param=name[:80])


def router(gateway: GatewayPort) -> APIRouter:
    directory = gateway.table.settings.decisions.directory  # fixed at start

    routes = APIRouter(prefix="/admin/v1", tags=["Admin"], dependencies=[Depends(admin_only(gateway))])

    @routes.get("/decisions/{request_id}", summary="How one request was routed")
    async def decision(request_id: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        """By the `x-request-id` of its answer, whichever process of this machine took it: the candidates with every
        term of their score, what was left out and why, the attempts, what was predicted and what came. Kept until
        `decisions.keep_mb` is full."""
        try:
            return Json(await asyncio.to_thread(find, directory, request_id))
        except OSError as error:
            raise InternalError(f"What is kept in {directory} cannot be read: {error.strerror}.") from None

    @routes.get("/explain", summary="How a request would be routed now", dependencies=[Depends(_known_parameters)])
    async def explain(  # pyright: ignore[reportUnusedFunction]
        model: Annotated[str, Query(min_length=1, max_length=256, description="As a client would name it")],
        tenant: Annotated[str, Query(min_length=1, max_length=256)],
        prompt_tokens: Annotated[int, Query(ge=1, le=MOST_TOKENS)],
        output_tokens: Annotated[
            int | None, Query(ge=0, le=MOST_TOKENS, description="Left out: the usual length of the model's answers")
        ] = None,
        optimize: Annotated[str | None, Query(description="cost, latency or quality, as in `routing`")] = None,
        max_ttft_ms: Annotated[float | None, Query(description="As in `routing`")] = None,
        max_price_usd_per_m: Annotated[float | None, Query(description="As in `routing`")] = None,
    ) -> Response:
        """Of a request that is only described; none is sent. The state of the workers is what this gateway process
        knows of them."""
        wishes: dict[str, Any] = {
            "optimize": optimize,
            "max_ttft_ms": max_ttft_ms,
            "max_price_usd_per_m": max_price_usd_per_m,
        }
        preferences = read_preferences({name: value for name, value in wishes.items() if value is not None})
        return Json(gateway.describe(Description(model, tenant, prompt_tokens, output_tokens, preferences)))

    return routes
