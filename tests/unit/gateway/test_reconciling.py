"""What a process asks of the ledger for its budgets, and that a ledger which is away changes nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gateway.ledger.opening import open_books, open_store
from gateway.ledger.store import Batch
from gateway.ledger.writer import Ledger
from gateway.reconciling import Pace, Reconciling
from gateway.table import Budget, Limits, Metering, Tenant
from gateway.tenancy.limiter import MemoryLimiter
from tests.attempts import attempt

TENANTS = {
    "support": Tenant("support", None, Limits(), Budget(10**9, "day", "reject"), 1.0, "standard"),
    "free": Tenant("free", None, Limits(), None, 1.0, "standard"),
}


def test_budgets_follow_a_ledger_that_comes_and_goes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    table: Any = SimpleNamespace(tenants=TENANTS, workers={}, settings=SimpleNamespace(metering=Metering()))
    limiter = MemoryLimiter(lambda *_: None)
    reconciling = Reconciling(limiter, Ledger(None), open_books(url), lambda: table, Pace(0.01, 0.0))

    def spent() -> list[int | None]:
        asyncio.run(reconciling.look(open_books(url)))
        limiter.tick(time.time())
        return [one.spent for one in limiter.standings(TENANTS["support"], time.time())]

    assert spent() == [], "there is no ledger yet"
    store = open_store(url)
    assert spent() == [0]
    today, yesterday = attempt(started_at=time.time()), attempt("old", started_at=time.time() - 86_400.0)
    store.write(Batch([today, yesterday]))
    assert spent() == [today.cost_nanousd]
    store.close()
    (tmp_path / "ledger.db").unlink()
    assert spent() == [today.cost_nanousd]
    assert limiter.standings(TENANTS["free"], time.time()) == []
