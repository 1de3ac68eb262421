"""/admin/v1/limits, of tenants with every kind of account."""

from __future__ import annotations

import time
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from gateway.table import Budget, Key, Limits, Tenant
from gateway.tenancy.limiter import MemoryLimiter

if TYPE_CHECKING:
    from tests.unit.gateway.api.conftest import Plane

USD = 1_000_000_000
ACME = Tenant(
    "acme",
    None,
    Limits(rpm=100, tpm=10_000),
    Budget(10 * USD, "month", "reject"),
    2.5,
    "standard",
    priority="batch",
    model_limits={"chat-8b": Limits(concurrency=2)},
)


@pytest.fixture
def limited(plane: Plane) -> Plane:
    plane.table = replace(plane.table, tenants={"zoe": replace(ACME, name="zoe", budget=None), "acme": ACME})
    plane.limiter = MemoryLimiter(lambda *_: None)  # type: ignore[attr-defined]
    return plane


def test_every_account_that_was_used_of_late(limited: Plane) -> None:
    limiter: MemoryLimiter = limited.limiter  # type: ignore[attr-defined]
    key = Key("ci", sha256(b"ci").digest(), ACME, Limits(rpm=3))
    now = time.time()
    ended, runs = (limiter.admit(key, "chat-8b", 100, USD, now) for _ in range(2))
    assert ended is not None
    assert runs is not None
    ended.settle(100, USD // 4, now)
    limiter.tick(now)
    shown = limited.admin("/limits")
    assert (shown["store"], shown["store_away"], shown["processes"]) == ("memory", False, 1)
    acme, zoe = shown["tenants"]
    assert (acme["tenant"], acme["weight"], acme["priority"]) == ("acme", 2.5, "batch")
    assert (zoe["tenant"], zoe["accounts"]) == ("zoe", [])
    accounts = {one.pop("account"): one for one in acme["accounts"]}
    assert set(accounts) == {"tenant", "budget:month", "key:ci", "model:chat-8b"}
    assert {one["in_flight"] for one in accounts.values()} == {1}
    assert accounts["budget:month"] == {
        "in_flight": 1,
        "budget": {"usd": 10.0, "spent_usd": pytest.approx(0.25), "reserved_usd": pytest.approx(1.0)},
    }
    assert accounts["key:ci"] == {"in_flight": 1, "requests_per_minute": {"limit": 3, "remaining": 1}}
    assert accounts["model:chat-8b"] == {"in_flight": 1, "concurrency": {"limit": 2, "remaining": 1}}
    assert accounts["tenant"]["requests_per_minute"]["limit"] == 100
    assert accounts["tenant"]["tokens_per_minute"]["limit"] == 10_000
    assert "budget" not in accounts["tenant"]


def test_it_is_the_operators_alone(limited: Plane) -> None:
    assert limited.ask("/admin/v1/limits").status_code == 401
    assert limited.ask("/admin/v1/limits", key="sk-everyone").status_code in (401, 403)
