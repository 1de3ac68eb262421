"""`tollgate report`: the bill, summed over any dimension of the ledger."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.cli.common import Commands, add_command, add_config, complain

if TYPE_CHECKING:
    from gateway.ledger.report import Report

_DETAILS = """\
Times are dates or ISO times (UTC unless they say otherwise), or a duration that reaches back from now.

dimensions: tenant, model, version, adapter, route, worker, key, endpoint, outcome, day, hour

examples:
  tollgate report
  tollgate report --by tenant,model,version --from 2026-11-01 --to 2026-12-01
  tollgate report --by hour --from 24h --format csv > spending.csv
"""


def register(commands: Commands) -> None:
    parser = add_command(commands, "report", "say who spent what", _DETAILS, run)
    parser.add_argument(
        "--by", type=_names, default=("tenant",), metavar="NAME,…", help="dimensions, see below; default: tenant"
    )
    parser.add_argument("--from", dest="since", type=moment, metavar="TIME", help="only requests from then on")
    parser.add_argument("--to", dest="until", type=moment, metavar="TIME", help="only requests before")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="default: %(default)s")
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    from gateway.config import ConfigError, ledger_location
    from gateway.ledger.report import build
    from gateway.ledger.store import LedgerError
    from gateway.ledger.sums import DIMENSIONS

    unknown = [name for name in arguments.by if name not in DIMENSIONS]
    if unknown or len(set(arguments.by)) < len(arguments.by):
        complain(f"--by {','.join(arguments.by)}: name each of these at most once: {', '.join(DIMENSIONS)}")
        return 2
    try:
        report = build(ledger_location(arguments.config), arguments.by, arguments.since, arguments.until)
    except (ConfigError, LedgerError) as error:
        complain(error)
        return 1
    {"table": _print_table, "csv": _print_csv, "json": _print_json}[arguments.format](report)
    return 0


def _print_table(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_footer=True)
    for name, total in zip(report.columns, report.total, strict=True):
        dimension = total == ""
        footer = "total" if dimension and name == report.columns[0] else str(total)
        table.add_column(name, footer, justify="left" if dimension else "right")
    for row in report.rows:
        table.add_row(*(str(cell) for cell in row))
    # A pipe has no width, and a bill with its figures cut off is no bill.
    Console(width=None if sys.stdout.isatty() else 1000, markup=False, highlight=False).print(table)


def _print_csv(report: Report) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(report.columns)
    writer.writerows(report.rows)


def _print_json(report: Report) -> None:
    rows = [dict(zip(report.columns, row, strict=True)) for row in report.rows]
    total = {name: value for name, value in zip(report.columns, report.total, strict=True) if value != ""}
    print(json.dumps({"rows": rows, "total": total}, indent=2, ensure_ascii=False))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def moment(text: str) -> float:
    """Unix seconds."""
    from gateway.config.units import UnitError, parse_duration

    try:
        return time.time() - parse_duration(text)
    except UnitError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 2026-11-01, 2026-11-01T12:00Z or 24h") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
