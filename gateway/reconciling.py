"""A process compares its budgets with the ledger, for as long as it serves: see `tenancy/reconciliation.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.ledger.store import Books, LedgerError
from gateway.ledger.sums import heard_from, spent_by_tenant
from gateway.ledger.writer import Ledger
from gateway.table import Table
from gateway.tenancy.budget import period
from gateway.tenancy.limits import Limiter
from gateway.tenancy.reconciliation import Reconciler

LEISURE = 20  # times as long as it took it rests, at least: a large ledger is not kept busy with this
LOST_READINGS = 2.5  # in so many of their turns a process that lives has made a reading


class Pace(NamedTuple):
    """In seconds. `delay` is how long after the end of a request all have told the limiter's books what it came to."""

    every: float = 5.0
    delay: float = 10.0


class Sums(NamedTuple):
    """What the ledger says at one moment."""

    spent: dict[int, dict[str, int]]  # since the beginning of each period, by tenant
    heard: dict[str, float]


class Reconciling:
    """`table` is the configuration in effect. Without `books` there is nothing to do."""

    def __init__(
        self,
        limiter: Limiter,
        ledger: Ledger,
        books: Books | None,
        table: Callable[[], Table],
        pace: Pace | None = None,
    ) -> None:
        self._books = books
        self._ledger = ledger
        self._table = table
        self._pace = pace or Pace()
        self._reconciler = Reconciler(limiter, ledger.source, self._pace.delay)

    async def run(self) -> None:
        while self._books is not None:
            began = time.monotonic()
            await self.look(self._books)
            await asyncio.sleep(max(self._pace.every, LEISURE * (time.monotonic() - began)))

    async def look(self, books: Books) -> None:
        """Once. While the ledger is away nothing changes, and the settler says so."""
        table = self._table()
        tenants = {name: tenant for name, tenant in table.tenants.items() if tenant.budget is not None}
        self._reconciler.retain(tenants)
        if not tenants:
            return
        asked = time.time()
        starts = {
            name: period(tenant.budget.per, int(asked * 1_000))[0]
            for name, tenant in tenants.items()
            if tenant.budget is not None
        }
        workers: list[str] = []
        if (
            self._reconciler.doubts and not self._ledger.stats.dropped
        ):  # what the ledger never got is spent all the same
            workers = list(table.workers)
        since = asked - max(self._pace.delay, LOST_READINGS * table.settings.metering.readings)
        try:
            sums = await asyncio.to_thread(_read, books, sorted(set(starts.values())), workers, since)
        except LedgerError:
            return
        for name, start in starts.items():
            spent = max(0, sums.spent[start].get(name, 0))
            self._reconciler.hear(tenants[name], start, spent, sums.heard, asked)


def _read(books: Books, starts: Sequence[int], workers: Sequence[str], since: float) -> Sums:
    with books.snapshot() as ledger:
        return Sums(
            {start: spent_by_tenant(ledger, start / 1_000) for start in starts}, heard_from(ledger, workers, since)
        )
