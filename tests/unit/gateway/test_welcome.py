"""What `tollgate up` says when all is ready."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.config.published import PUBLISHED_KEYS
from gateway.table import (
    Adapter,
    CachePolicy,
    Candidate,
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
)
from gateway.welcome import base_url, models_to_try, welcome

SUPPORT = Tenant("support", None, Limits(), None, 1.0, "standard")
TRIAL = Tenant("trial", frozenset({"small", "auto"}), Limits(), None, 1.0, "standard")
LOGS = Path("var/log/workers")


def model(name: str, **adapters: frozenset[str] | None) -> Model:
    return Model(
        name=name,
        context=512,
        task="generate",
        versions={"v": Version("v", None, "none", None)},
        traffic=(),
        adapters={adapter: Adapter(adapter, "somewhere", tenants) for adapter, tenants in adapters.items()},
    )


def route(name: str) -> Route:
    return Route(
        name=name,
        match=Match(models=frozenset({name})),
        candidates=(Candidate("big", None),),
        minimize="cost",
        subject_to=SubjectTo(),
        fallback=(),
        retry=Retry(),
        hedge=None,
        timeout=Timeout(),
        cache=CachePolicy(),
        mode="enforce",
    )


def table(*tenants: Tenant, key: str | None = None, **changes: Any) -> Table:
    digest = sha256((key or "sk-own").encode()).digest()
    plain: dict[str, Any] = {
        "revision": "r",
        "directory": Path("router_config"),
        "settings": Settings(),
        "gpus": {},
        "workers": {},
        "models": {"big": model("big", sql=None, help=frozenset({"support"})), "small": model("small")},
        "aliases": {"gpt-4o": "big", "helpdesk": "big:help"},
        "routes": (route("auto"), route("big")),
        "tenants": {tenant.name: tenant for tenant in tenants},
        "keys": {digest: Key("k", digest, tenants[0])} if tenants else {},
    }
    return Table(**plain | changes)


def test_the_lines_to_paste() -> None:
    lines = welcome(table(SUPPORT, key=PUBLISHED_KEYS[0]), "http://127.0.0.1:4000", LOGS, [])
    assert "  export OPENAI_BASE_URL=http://127.0.0.1:4000/v1" in lines
    assert f"  export OPENAI_API_KEY={PUBLISHED_KEYS[0]}" in lines
    assert "  ledger   sqlite:///var/ledger.db   (tollgate report)" in lines
    assert "Tollgate is ready." in lines


def test_without_a_published_key_it_says_how_to_make_one() -> None:
    lines = welcome(table(TRIAL), "http://h:1", LOGS, [])
    assert "  export OPENAI_API_KEY=$(tollgate keys create trial --write --config router_config)" in lines


def test_without_a_tenant_too() -> None:
    assert any("tollgate keys create NAME" in line for line in welcome(table(), "http://h:1", LOGS, []))


def test_what_is_not_running_comes_first() -> None:
    lines = welcome(table(SUPPORT), "http://h:1", LOGS, ["w: killed by SIGILL"])
    assert lines[1] == "not running: w: killed by SIGILL"
    assert "Tollgate is ready." not in lines


@pytest.mark.parametrize(
    ("tenant", "names"),
    [
        (None, ["auto", "big", "big:sql", "big:help", "small", "gpt-4o", "helpdesk"]),
        (SUPPORT, ["auto", "big", "big:sql", "big:help", "small", "gpt-4o", "helpdesk"]),
        (TRIAL, ["auto", "small"]),
        (Tenant("other", None, Limits(), None, 1.0, "standard"), ["auto", "big", "big:sql", "small", "gpt-4o"]),
    ],
)
def test_only_models_that_the_shown_key_may_use(tenant: Tenant | None, names: list[str]) -> None:
    assert models_to_try(table(), None if tenant is None else Key("k", b"", tenant)) == names


def test_a_key_with_a_list_of_its_own_is_offered_what_is_on_it() -> None:
    key = Key("k", b"", SUPPORT, models=frozenset({"small", "helpdesk"}))
    assert models_to_try(table(), key) == ["small", "helpdesk"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:4000"),
        ("0.0.0.0", "http://127.0.0.1:4000"),
        ("::", "http://[::1]:4000"),
        ("::1", "http://[::1]:4000"),
        ("gateway.internal", "http://gateway.internal:4000"),
    ],
)
def test_where_a_client_on_this_machine_connects(host: str, url: str) -> None:
    assert base_url(host, 4000) == url
