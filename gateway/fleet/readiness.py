"""Which models the gateway should serve and cannot at the moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.routing.types import WorkerView
from gateway.table import Table

Views = Callable[[str, str | None], Sequence[WorkerView]]


def unserved(table: Table, views: Views) -> dict[str, str]:
    """Each model that routes lead to or that has workers, and that no worker serves now: the model and the reason."""
    wanted = {worker.model for worker in table.workers.values()}
    for route in table.routes:
        wanted.update(candidate.model for candidate in (*route.candidates, *route.fallback))
    missing: dict[str, str] = {}
    for model in sorted(wanted):
        workers = views(model, None)
        if not any(view.up and not view.draining for view in workers):
            missing[model] = "; ".join(f"{view.worker.name}: {_state(view)}" for view in workers) or "it has no worker"
    return missing


def _state(view: WorkerView) -> str:
    return "draining" if view.up else view.why_down
