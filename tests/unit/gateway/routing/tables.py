"""Small tables, tenants and workers to route over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.routing.router import Views
from gateway.routing.types import Ask, Preferences, WorkerView
from gateway.table import (
    Adapter,
    CachePolicy,
    Candidate,
    Gpu,
    Limits,
    Match,
    Model,
    Price,
    Retry,
    Route,
    Settings,
    SubjectTo,
    Table,
    Tenant,
    Timeout,
    Version,
    Worker,
)

USD = 1_000_000_000
GPU = Gpu("l4", 3600 * USD, None)  # one USD a second, for easy sums


def tenant(name: str = "ann", tier: str = "standard") -> Tenant:
    return Tenant(name, None, Limits(), None, 1.0, tier)


def version(name: str, quantization: str = "none", quality: float | None = None) -> Version:
    return Version(name, None, quantization, quality)


def model(
    name: str,
    *versions: Version | str,
    traffic: Mapping[str, int] | None = None,
    adapters: Sequence[str] = (),
    **more: Any,
) -> Model:
    known = [each if isinstance(each, Version) else version(each) for each in versions]
    fields: dict[str, Any] = {"context": 1000, "task": "generate", **more}
    return Model(
        name=name,
        versions={each.name: each for each in known},
        traffic=tuple((traffic or {}).items()),
        adapters={adapter: Adapter(adapter, f"/adapters/{adapter}", None) for adapter in adapters},
        **fields,
    )


def route(name: str, *candidates: Candidate, **more: Any) -> Route:
    fields: dict[str, Any] = {
        "match": Match(models=frozenset({name})),
        "minimize": "latency",
        "subject_to": SubjectTo(),
        "fallback": (),
        "retry": Retry(),
        "hedge": None,
        "timeout": Timeout(),
        "cache": CachePolicy(),
        "mode": "enforce",
        **more,
    }
    return Route(name=name, candidates=candidates, **fields)


def table(*models: Model, aliases: Mapping[str, str] | None = None, routes: Sequence[Route] = ()) -> Table:
    return Table(
        revision="r",
        directory=Path(),
        settings=Settings(),
        gpus={},
        workers={},
        models={each.name: each for each in models},
        aliases=aliases or {},
        routes=tuple(routes),
        tenants={},
        keys={},
    )


def worker(name: str, serves: str, *, gpu: Gpu | None = GPU, price: Price | None = None) -> Worker:
    base, _, its_version = serves.partition("@")
    return Worker(
        name=name,
        url="http://127.0.0.1:1",
        engine="vllm",
        model=base,
        version=its_version,
        gpu=gpu,
        gpus=1,
        max_loras=0,
        price=price,
        api_key=None,
        launch=None,
        serves_as=None,
    )


def view(
    name: str = "w", serves: str = "chat@a", *, gpu: Gpu | None = GPU, price: Price | None = None, **state: Any
) -> WorkerView:
    fields: dict[str, Any] = {"up": True, "base_name": f"/models/{serves}", **state}
    return WorkerView(worker=worker(name, serves, gpu=gpu, price=price), **fields)


def fleet(*views: WorkerView) -> Views:
    def serving(name: str, its_version: str | None) -> Sequence[WorkerView]:
        return [each for each in views if each.worker.model == name and its_version in (None, each.worker.version)]

    return serving


def ask(name: str = "chat", **more: Any) -> Ask:
    fields: dict[str, Any] = {
        "tenant": tenant(),
        "task": "generate",
        "prompt_tokens": 100,
        "output_tokens": 50,
        "preferences": Preferences(),
        **more,
    }
    return Ask(model=name, **fields)


def names(steps: Iterable[Any]) -> list[str]:
    return [step.view.worker.name for step in steps]
