"""The sums of a report as rows with types, for who wants them in Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from gateway.ledger.export.columns import Column, Row
from gateway.ledger.report import MEASURES
from gateway.ledger.report import read as read_report
from gateway.ledger.store import Snapshot

_AMOUNTS = frozenset(name for name in MEASURES if name.endswith(("_usd", "_seconds")))


def read(
    ledger: Snapshot, by: Sequence[str], since: float | None, until: float | None
) -> tuple[Sequence[Column], Sequence[Row], Sequence[str]]:
    """Columns, rows, and what is to be said of them."""
    report = read_report(ledger, by, since, until)
    columns = [Column(name, "text") for name in by]
    columns += [Column(name, "amount" if name in _AMOUNTS else "count") for name in MEASURES]
    rows = [
        tuple(
            Decimal(str(cell)) if column.kind == "amount" else cell for cell, column in zip(row, columns, strict=True)
        )
        for row in report.rows
    ]
    return columns, rows, report.notes
