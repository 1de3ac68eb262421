"""One worker as the gateway lives with it: what the router sees of it, and the means to talk to it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.engines.dialect import Dialect
from gateway.ledger.pricing import Meter
from gateway.routing.types import WorkerView
from gateway.upstream.pool import Pool


@dataclass(slots=True, kw_only=True)
class Backend(WorkerView):
    """A `WorkerView` plus its connections, its engine's dialect and the meter that shares out its busy time."""

    pool: Pool
    dialect: Dialect
    meter: Meter
