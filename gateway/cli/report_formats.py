"""A bill as a table, as CSV, as JSON."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from gateway.ledger.fits import MEANINGS, Fit
from gateway.ledger.report import Cell, Report
from gateway.ledger.text import inert

_FIT_TEXTS = 4  # columns: model, version, gpu and time


def show(report: Report, form: str) -> None:
    if form == "table":
        _show_table(report.columns, report.rows, report.total)
        for note in report.notes:
            print(note)
    elif form == "csv":
        _show_csv(report.columns, report.rows, texts=len(report.by))
        for note in report.notes:
            print(f"tollgate: {note}", file=sys.stderr)
    else:
        print(json.dumps(report.document(), indent=2, ensure_ascii=False))


def show_fits(found: Sequence[Fit], form: str) -> None:
    columns = ("model", "version", "gpu", "fitted_at", "windows", "r2", *(name for name, _ in MEANINGS))
    rows: list[tuple[Cell, ...]] = [
        (
            fit.model,
            fit.version,
            fit.gpu,
            f"{datetime.fromtimestamp(fit.at, UTC):%Y-%m-%dT%H:%MZ}",
            fit.n,
            f"{fit.r2:.4f}",
            *(f"{value:.6g}" for value in fit[6:]),
        )
        for fit in found
    ]
    if form == "csv":
        _show_csv(columns, rows, texts=_FIT_TEXTS)
    elif form == "json":
        print(json.dumps({"fits": [fit._asdict() for fit in found], "meanings": dict(MEANINGS)}, indent=2))
    elif not rows:
        print("nothing has been fitted yet: that takes some windows with requests in them")
    else:
        _show_table(columns, rows, None)
        print("seconds of a worker for " + ", ".join(f"{name}: {meaning}" for name, meaning in MEANINGS))


def _show_table(columns: Sequence[str], rows: Sequence[tuple[Cell, ...]], total: tuple[Cell, ...] | None) -> None:
    table = Table(show_footer=total is not None)
    for place, name in enumerate(columns):
        sample = total[place] if total is not None else rows[0][place]
        text = sample == "" if total is not None else place < _FIT_TEXTS
        footer = "total" if total is not None and text and place == 0 else str(sample)
        table.add_column(name, footer if total is not None else "", justify="left" if text else "right")
    for row in rows:
        table.add_row(*map(_plain, row))
    # A pipe has no width, and a bill with its figures cut off is no bill.
    Console(width=None if sys.stdout.isatty() else 1000, markup=False, highlight=False).print(table)


def _plain(cell: Cell) -> str:
    """For a terminal: what clients said (`user`, tags) must neither break its lines nor steer it."""
    text = str(cell)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _show_csv(columns: Sequence[str], rows: Sequence[tuple[Cell, ...]], *, texts: int) -> None:
    """The first `texts` columns hold what clients and the configuration said, the others numbers."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([*(inert(str(cell)) for cell in row[:texts]), *row[texts:]] for row in rows)
