"""/admin/v1: the operator's view, behind a key of its own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from gateway.api.guard import admin_only
from gateway.api.json import Json
from gateway.api.ports import GatewayPort
from gateway.config.problems import Problem
from gateway.engines.load import NO_LOAD, UNKNOWN
from gateway.errors import BadRequest, Conflict, NotFound, Overloaded
from gateway.fleet.backend import Backend
from gateway.fleet.drains import TooManyDrained
from gateway.ledger.dimensions import DIMENSIONS, is_dimension
from gateway.ledger.report import build
from gateway.ledger.store import LedgerError
from gateway.routing.router import spell
from gateway.state.drains import MOST_DRAINED
from gateway.table import Match, Route


def router(gateway: GatewayPort) -> APIRouter:
    ledger = gateway.table.settings.ledger  # fixed at start: a change on disk takes effect with the next one

    routes = APIRouter(prefix="/admin/v1", tags=["Admin"], dependencies=[Depends(admin_only(gateway))])

    @routes.get("/workers", summary="Workers and their state")
    async def workers() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Every worker, configured or found behind a configured address: what it serves, whether it takes requests
        and if not why, and its load. All is as the one process sees it that answers, `process` by its id on its
        machine; the other `processes` there, and other replicas, see for themselves. `drained_absent` are drained too,
        and this one sees no worker of that name."""
        fleet = gateway.fleet
        return Json(
            {
                "process": os.getpid(),
                "processes": gateway.table.settings.server.processes,
                "workers": [_worker(backend) for backend in fleet.backends()],
                "drained_absent": sorted(fleet.drained - fleet.workers().keys()),
                "discovery": [
                    {
                        "name": name,
                        "url": one.url,
                        "found": len(one.urls),
                        "error": one.error or None,
                        "warnings": list(one.warnings),
                    }
                    for name, one in fleet.discoveries().items()
                ],
            }
        )

    @routes.post("/workers/{name}/drain", summary="Drain a worker")
    async def drain(name: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        """No gateway process sends it new requests; those under way finish. Holds for the name until undrained, over
        reloads and restarts and while there is no such worker. `shared` is false while the store that tells the others
        is away: they hear of it when it is back."""
        return Json(await _set_draining(gateway, name, True))

    @routes.post("/workers/{name}/undrain", summary="Undrain a worker")
    async def undrain(name: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        """It gets requests again."""
        return Json(await _set_draining(gateway, name, False))

    @routes.get("/config", summary="The configuration in effect")
    async def config() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Which revision is in effect since when, and what keeps the files on disk from being it."""
        state = gateway.watcher.state
        return Json(
            {
                "revision": state.revision,
                "directory": str(gateway.table.directory),
                "loaded_at": _time(state.loaded_at),
                "valid": not state.last_error,
                "reloads": state.reloads,
                "failures": state.failures,
                "errors": list(map(_problem, state.last_error)),
                "last_error_at": _time(state.last_error_at),
                "warnings": list(map(_problem, state.warnings)),
                "needs_restart": list(state.needs_restart),
            }
        )

    @routes.get("/routes", summary="Routes in order")
    async def show_routes() -> Response:  # pyright: ignore[reportUnusedFunction]
        """The first that matches takes a request; durations are seconds. What no route matches goes to the model it
        names."""
        table = gateway.table
        return Json({"revision": table.revision, "routes": [_route(route) for route in table.routes]})

    @routes.get("/usage", summary="Usage and cost from the ledger")
    async def usage(  # pyright: ignore[reportUnusedFunction]
        by: Annotated[str, Query(description=f"Dimensions, comma-separated: {', '.join(DIMENSIONS)}")] = "tenant",
        since: Annotated[
            str | None, Query(alias="from", description="Start: a date, an ISO time (UTC), or Unix seconds")
        ] = None,
        until: Annotated[str | None, Query(alias="to", description="End, exclusive; like `from`")] = None,
        prices: Annotated[
            bool, Query(description="Show beside the bill what the price list in `prices:` makes of the same tokens")
        ] = False,
    ) -> Response:
        """Use and cost summed over any dimensions. Amounts are exact decimal strings: `metered_usd` is what budgets
        count, `cost_usd` the bill, in which workers' time is shared out through `shared_through`; `unshared_usd` was
        metered and awaits that."""
        names = [name for name in by.split(",") if name]
        for name in names:
            if not is_dimension(name):
                raise BadRequest(f"`{name[:80]}` is no dimension: choose among {', '.join(DIMENSIONS)}.", param="by")
        start, end = _moment(since, "from"), _moment(until, "to")
        try:
            listed = gateway.table.prices if prices else None
            report = await asyncio.to_thread(build, ledger, list(dict.fromkeys(names)), start, end, listed)
        except LedgerError as error:
            raise Overloaded(f"The ledger cannot be read: {error}.", retry_after=5.0) from None
        return Json(report.document())

    return routes


async def _set_draining(gateway: GatewayPort, name: str, draining: bool) -> dict[str, Any]:
    try:
        backend = await gateway.drains.change(name, draining)
        shown = {"name": name, "draining": draining} if backend is None else _worker(backend)
        return {**shown, "shared": gateway.drains.shared}
    except TooManyDrained:
        raise Conflict(
            f"{MOST_DRAINED} workers are drained and no more names are kept: undrain those that are gone, "
            "`drained_absent` of /admin/v1/workers lists them.",
            param="name",
            code="too_many_drained",
        ) from None
    except KeyError:
        known = ", ".join(list(gateway.fleet.workers())[:100]) or "none"
        raise NotFound(
            f"There is no worker `{name[:200]}`; there are: {known}.", param="name", code="worker_not_found"
        ) from None


def _worker(backend: Backend) -> dict[str, Any]:
    worker, now = backend.worker, time.monotonic()
    return {
        "name": worker.name,
        "url": worker.url,
        "engine": worker.engine,
        "model": worker.model,
        "version": worker.version,
        "gpu": worker.gpu.name if worker.gpu else None,
        "gpus": worker.gpus,
        "up": backend.up,
        "why_down": None if backend.up else backend.why_down,
        "draining": backend.draining,
        "silent": backend.silent,
        "warming_up": bool(backend.cold_since),
        "serves": backend.base_name or None,
        "adapters": dict(backend.adapters),
        "adapter_placement": _placement(backend, now),
        "breakers": {name: breaker.state for name, breaker in backend.breakers.items() if breaker.state != "closed"},
        "ejected_seconds": max(0.0, backend.standing.ejected_until - now),
        "in_flight": backend.inflight,
        "max_inflight": worker.max_inflight,
        "full": not backend.has_room(now),
        "queued": backend.queue.waiting,
        "pending_tokens": backend.pending_tokens,
        "engine_load": _load(backend, now),
        "prefix_cache": _prefix_cache(backend),
        "connections": backend.pool.connections,
        "busy_seconds": backend.meter.busy / 1e9,
        "seconds_per_prompt_token": backend.seconds_per_prompt_token,
        "seconds_per_output_token": backend.seconds_per_output_token,
    }


def _placement(backend: Backend, now: float) -> dict[str, Any] | None:
    """Of a worker whose adapters the gateway loads: what is there or on its way, and what could not be loaded."""
    shelf = backend.shelf
    if shelf is None:
        return None
    return {
        "max_loras": shelf.room,
        "load_seconds": shelf.load_seconds,
        "resident": [
            {
                "adapter": one.adapter,
                "serves": one.name,
                "state": "held" if one.is_held else "moving",
                "in_use": shelf.using.get(one.name, 0),
                "unused_seconds": 0.0 if one.name in shelf.using else now - one.used_at,
            }
            for one in shelf.residents.values()
        ],
        "failed": {
            adapter: {"serves": failure.name, "why": failure.why, "retry_seconds": max(0.0, failure.until - now)}
            for adapter, failure in shelf.failures.items()
        },
    }


def _load(backend: Backend, now: float) -> dict[str, Any] | None:
    """By the engine's own word, None while that is not known."""
    if backend.load is NO_LOAD:
        return None
    known = {"running": backend.running, "waiting": backend.waiting, "kv_usage": backend.kv_usage}
    return {
        **{name: None if figure == UNKNOWN else figure for name, figure in known.items()},
        "age_seconds": now - backend.polled_at,
    }


def _prefix_cache(backend: Backend) -> dict[str, Any] | None:
    """What it is taken to hold, in blocks of the index, and what of that its answers show to be there."""
    prefixes = backend.prefixes
    if prefixes is None:
        return None
    told = backend.load.cache_tokens
    return {
        "cache_tokens": None if told == UNKNOWN else told,
        "blocks": len(prefixes),
        "most_blocks": prefixes.most,
        "block_tokens": prefixes.index.block_tokens,
        "reuse": backend.reuse,
    }


def _route(route: Route) -> dict[str, Any]:
    return {
        "name": route.name,
        "match": dict(_conditions(route.match)),
        "candidates": [spell(candidate) for candidate in route.candidates],
        "minimize": route.minimize,
        "subject_to": asdict(route.subject_to),
        "fallback": [spell(candidate) for candidate in route.fallback],
        "retry": asdict(route.retry),
        "hedge": asdict(route.hedge) if route.hedge else None,
        "timeout": asdict(route.timeout),
        "cache": asdict(route.cache),
        "mode": route.mode,
    }


def _conditions(match: Match) -> Iterator[tuple[str, object]]:
    """Only those that are set."""
    for name, names in (("model", match.models), ("tenant", match.tenants), ("tier", match.tiers)):
        if names is not None:
            yield name, sorted(names)
    if match.max_prompt_tokens is not None:
        yield "max_prompt_tokens", match.max_prompt_tokens


def _problem(problem: Problem) -> dict[str, Any]:
    return {"file": problem.file, "line": problem.line, "severity": problem.severity, "message": problem.message}


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _moment(text: str | None, param: str) -> float | None:
    if not text:
        return None
    try:
        return float(text) if text.replace(".", "", 1).isdecimal() else _utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise BadRequest(
            f"`{param}` must be a date (2026-01-31), an ISO time in UTC, or Unix seconds.", param=param
        ) from None


def _utc(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
