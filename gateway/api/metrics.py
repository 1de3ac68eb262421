"""/metrics: Prometheus text, of one process or of all that share PROMETHEUS_MULTIPROC_DIR."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from typing import Any, cast

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import Response

from gateway.api.ports import GatewayPort

MULTIPROCESS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


def router(gateway: GatewayPort, environ: Mapping[str, str] = os.environ) -> APIRouter:
    routes = APIRouter(tags=["Operations"])

    @routes.get("/metrics", summary="Prometheus metrics")
    async def metrics() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Names begin with `tollgate_`. Of several processes any one answers for all."""
        # Collected here, where nothing changes meanwhile; put into text elsewhere, as that takes longer.
        families = list(gateway.metrics.registry.collect())
        directory = environ.get(MULTIPROCESS_DIRECTORY)
        return Response(await asyncio.to_thread(_text, families, directory), media_type=CONTENT_TYPE_LATEST)

    return routes


def _text(families: list[Metric], directory: str | None) -> bytes:
    if directory:
        collector = cast("Any", MultiProcessCollector)(CollectorRegistry(), path=directory)
        shared = cast("list[Metric]", list(collector.collect()))
        names = {family.name for family in shared}
        # What is read when somebody scrapes is of this process alone, and says so.
        families = shared + [_of_this_process(family) for family in families if family.name not in names]
    return generate_latest(cast("CollectorRegistry", _Collected(families)))


def _of_this_process(family: Metric) -> Metric:
    pid = str(os.getpid())
    family.samples = [sample._replace(labels={**sample.labels, "process": pid}) for sample in family.samples]
    return family


class _Collected:
    """Families that have been collected already, for the text writer."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
