"""Limits and budgets as their metrics show them, each tenant's and no key's; the ledger, as its settler tells."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.ledger.writer import Ledger
from gateway.readings import of_ledger, of_limits
from gateway.settler.status import Status, write_status
from gateway.table import Budget, Key, Limits, Tenant
from gateway.tenancy.limiter import MemoryLimiter

USD = 1_000_000_000


def tenant(name: str, budget: Budget | None = None, **limits: int) -> Tenant:
    return Tenant(name, None, Limits(**limits), budget, 1.0, "standard", model_limits={"big": Limits(rpm=1)})


def read(limiter: MemoryLimiter, *tenants: Tenant) -> dict[tuple[str, str, str], float]:
    readings = of_limits(limiter, {one.name: one for one in tenants})
    return {(one.name, one.labels.get("tenant", ""), one.labels.get("kind", "")): one.value for one in readings}


def test_what_is_left_of_each_limit_and_spent_of_each_budget() -> None:
    limiter, now = MemoryLimiter(lambda *_: None), time.time()
    acme = tenant("acme", Budget(2 * USD, "total", "reject"), rpm=10, tpm=1_000, concurrency=4)
    key = Key("k", b"digest", acme, Limits(rpm=5))
    ended, runs = (limiter.admit(key, "big" if first else "", 100, USD // 2, now) for first in (True, False))
    assert ended is not None
    assert runs is not None
    ended.settle(40, USD // 4, now)
    limiter.tick(now)
    shown = read(limiter, acme, tenant("idle", rpm=7))
    for kind, limit, left in (("requests", 10, 8), ("concurrency", 4, 3)):
        assert shown["tollgate_limit_max", "acme", kind] == limit
        assert shown["tollgate_limit_remaining", "acme", kind] == left
    assert shown["tollgate_limit_max", "acme", "tokens"] == 1_000
    assert 860 <= shown["tollgate_limit_remaining", "acme", "tokens"] <= 900  # it refills as time passes
    assert shown["tollgate_limit_budget_usd", "acme", ""] == 2.0
    assert shown["tollgate_limit_budget_spent_usd", "acme", ""] == pytest.approx(0.25)
    assert (shown["tollgate_limit_store_away", "", ""], shown["tollgate_limit_processes", "", ""]) == (0, 1)
    assert shown["tollgate_limit_waiting", "", ""] == 0
    assert len(shown) == 3 + 2 * 3 + 2  # nothing of its key, its model, or of who has sent nothing


def test_a_limit_that_is_not_there_is_not_shown() -> None:
    limiter = MemoryLimiter(lambda *_: None)
    acme = tenant("acme", rpm=10)
    limiter.admit(Key("k", b"digest", acme), "", 100, 0, time.time())
    assert {kind for _, of, kind in read(limiter, acme) if of} == {"requests"}


def test_what_the_settler_says_of_its_stream(tmp_path: Path) -> None:
    write_status(tmp_path, Status(set_aside=2, claimed=3, streamed=5))
    shown = {one.name: one.value for one in of_ledger(Ledger(None), tmp_path)}
    assert shown["tollgate_ledger_set_aside"] == 2
    assert shown["tollgate_ledger_claimed"] == 3
    assert shown["tollgate_ledger_streamed"] == 5
