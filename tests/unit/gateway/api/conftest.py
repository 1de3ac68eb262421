"""A control plane over a small, real configuration: two models, adapters with and without a fence, aliases, a route."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from gateway.api import create_control_plane
from gateway.config import WatchState
from gateway.engines import DIALECTS
from gateway.fleet.added import Added, open_adapter_store
from gateway.fleet.backend import Backend
from gateway.fleet.drains import Drains
from gateway.fleet.registry import Fleet
from gateway.keyring.opening import open_key_store
from gateway.keyring.ring import Keyring
from gateway.ledger.pricing import Meter
from gateway.table import (
    Adapter,
    CachePolicy,
    Candidate,
    Gpu,
    Key,
    Limits,
    Match,
    Model,
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
from gateway.tenancy.keys import Keys
from gateway.upstream.pool import Pool

ADMIN_KEY = "sk-admin-key"


def tenant(name: str, models: set[str] | None = None, tier: str = "standard") -> Tenant:
    return Tenant(name, frozenset(models) if models is not None else None, Limits(), None, 1.0, tier)


TENANTS = {
    "everyone": tenant("everyone"),
    "support": tenant("support", {"chat-8b", "chat-8b:support", "auto"}),
    "pinned": tenant("pinned", {"chat-8b@int4"}),
    "nobody": tenant("nobody", set()),
    "premium": tenant("premium", tier="premium"),
}


def digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def worker(name: str, model: str, version: str) -> Worker:
    gpu = Gpu("l40s", 1_100_000_000, None)
    return Worker(name, f"http://10.0.0.5/{name}", "vllm", model, version, gpu, 1, 4, None, "sk-worker", None, None)


def make_table(ledger: str = "sqlite:///var/none.db") -> Table:
    workers = [
        worker("chat-fp8-0", "chat-8b", "fp8"),
        worker("chat-int4-0", "chat-8b", "int4"),
        worker("e", "embed", "v"),
    ]
    adapters = {
        "support": Adapter("support", "adapters/support-v3", frozenset({"support"})),
        "open": Adapter("open", "adapters/open", None),
    }
    versions = {name: Version(name, None, name, 0.99) for name in ("fp8", "int4", "planned")}
    return Table(
        revision="abc123",
        directory=Path("router_config"),
        settings=Settings(ledger=ledger, admin_key_digests=frozenset({digest(ADMIN_KEY)})),
        gpus={},
        workers={w.name: w for w in workers},
        models={
            "chat-8b": Model("chat-8b", 8192, "generate", versions, (("fp8", 100),), adapters),
            "embed": Model("embed", 512, "embed", {"v": Version("v", None, "none", None)}, (), {}),
            "unserved": Model("unserved", 512, "generate", {"v": Version("v", None, "none", None)}, (), {}),
        },
        aliases={"gpt-4o-mini": "chat-8b", "helpdesk": "chat-8b:support", "best": "auto"},
        routes=(
            Route(
                name="cheap-first",
                match=Match(models=frozenset({"auto"}), tiers=frozenset({"standard"}), max_prompt_tokens=8000),
                candidates=(Candidate("chat-8b", "int4"), Candidate("chat-8b", None, "open")),
                minimize="cost",
                subject_to=SubjectTo(ttft_p95=0.8),
                fallback=(),
                retry=Retry(),
                hedge=None,
                timeout=Timeout(),
                cache=CachePolicy(),
                mode="enforce",
            ),
        ),
        tenants=TENANTS,
        keys={digest(f"sk-{name}"): Key("k", digest(f"sk-{name}"), each) for name, each in TENANTS.items()},
    )


def make_backend(of: Worker) -> Backend:
    return Backend(worker=of, pool=Pool(of.url), dialect=DIALECTS[of.engine], meter=Meter())


@dataclass
class Watching:
    state: WatchState = field(default_factory=lambda: WatchState(revision="abc123", loaded_at=1_767_225_600.0))


@dataclass
class Counting:
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)


@dataclass
class Plane:
    """A gateway as its control plane sees it, and a client of it."""

    table: Table = field(default_factory=make_table)
    fleet: Fleet = field(default_factory=lambda: Fleet(make_backend))
    watcher: Watching = field(default_factory=Watching)
    metrics: Counting = field(default_factory=Counting)
    admin_key: str = ADMIN_KEY
    draining: bool = False

    def __post_init__(self) -> None:
        self.fleet.apply(self.table)
        self.drains = Drains(None, self.fleet)
        adapters = open_adapter_store(self.table.settings.state, self.table.settings.ledger)
        self.added = Added(adapters, self.table, self.join)
        store = open_key_store(self.table.settings.state, self.table.settings.ledger)
        self.keyring = Keyring(store, self.table, lambda: None)
        self.app: FastAPI = create_control_plane(self)

    @property
    def keys(self) -> Keys:
        return Keys(self.table.keys, {})

    def join(self) -> None:
        self.table = self.added.join(self.added.written)
        self.fleet.apply(self.table)

    def refresh(self) -> None:
        """The keyring looks at its store, as it does twice a second in a gateway."""
        asyncio.run(self.keyring.refresh())

    def up(self, *names: str) -> None:
        for backend in self.fleet.backends():
            backend.up = backend.worker.name in names

    def ask(
        self,
        path: str,
        method: str = "GET",
        key: str | None = None,
        *,
        json: object = None,
        content: bytes | None = None,
        **headers: str,
    ) -> httpx2.Response:
        if key is not None:
            headers["authorization"] = f"Bearer {key}"

        async def once() -> httpx2.Response:
            transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await client.request(method, path, headers=headers, json=json, content=content)

        return asyncio.run(once())

    def admin(self, path: str, method: str = "GET") -> Any:
        answer = self.ask(f"/admin/v1{path}", method, self.admin_key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def without_admin_keys(self) -> None:
        self.table = replace(self.table, settings=replace(self.table.settings, admin_key_digests=frozenset()))


@pytest.fixture
def plane() -> Plane:
    return Plane()


@pytest.fixture
def plane_with_ledger() -> Callable[[str], Plane]:
    return lambda url: Plane(table=make_table(url))
