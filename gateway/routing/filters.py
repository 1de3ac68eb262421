"""Why a worker may not take a request. The first reason found is the one reported."""

from __future__ import annotations

from gateway.routing import scorers
from gateway.routing.types import Ask, Drop, WorkerView
from gateway.table import Model, SubjectTo


def cannot(view: WorkerView, ask: Ask, model: Model, adapter: str | None) -> Drop | None:
    """What makes it impossible there; holds for candidates and fallbacks alike."""
    if not view.up:
        return "down"
    if view.draining:
        return "draining"
    if ask.task not in ("any", model.task):
        return "task"
    if adapter is not None and adapter not in view.adapters:
        reason = "adapter_missing" if view.shelf is None else view.shelf.refuses(adapter)
        if reason is not None:
            return reason
    # The estimate errs by a factor; only a prompt that cannot fit by any count is refused here, the engine knows the
    # rest and says it better. What is embedded or ranked is many texts in one body, each with a context of its own.
    if ask.task == "generate" and ask.prompt_tokens > 4 * model.context:
        return "context_length"
    return None


def barred(view: WorkerView, engine_model: str, now: float) -> Drop | None:
    """What speaks against a worker that could answer: its own recent failures. Without another it is asked still."""
    if view.silent:
        return "silent"
    if view.standing.ejected_until > now:
        return "ejected"
    if view.breakers:
        breaker = view.breakers.get(engine_model)
        if breaker is not None and not breaker.allows(now):
            return "breaker_open"
    return None


def misses(view: WorkerView, model: Model, terms: SubjectTo, ttft_seconds: float) -> Drop | None:
    """What the route rules out; a fallback is what it takes instead when nothing meets its terms. `ttft_seconds` is
    predicted."""
    if terms.min_quality is not None and scorers.quality(model.versions[view.worker.version]) < terms.min_quality:
        return "quality"
    if terms.ttft_p95 is not None and ttft_seconds > terms.ttft_p95:
        return "ttft"
    return None


def unwanted(view: WorkerView, ask: Ask, model: Model, ttft_seconds: float, nanousd: float) -> Drop | None:
    """What the request itself rules out, for candidates and fallbacks alike: its sender pays. Time and cost are
    predicted."""
    wishes = ask.preferences
    version = model.versions[view.worker.version]
    if wishes.only is not None and wishes.only.isdisjoint(
        (view.worker.name, model.name, f"{model.name}@{version.name}")
    ):
        return "not_in_only"
    if wishes.quantizations is not None and version.quantization not in wishes.quantizations:
        return "quantization"
    if wishes.max_ttft_seconds is not None and ttft_seconds > wishes.max_ttft_seconds:
        return "ttft"
    if (
        wishes.max_price_usd_per_m is not None
        and scorers.usd_per_million_tokens(nanousd, ask) > wishes.max_price_usd_per_m
    ):
        return "price"
    return None
