"""`tollgate-worker report`: a page and a Markdown file with plots from one or more evaluations."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from workers.evaluation.report import write
from workers.evaluation.report.markup import plain
from workers.evaluation.report.summary import COLUMNS, Summary, summaries
from workers.evaluation.report.write import HTML, MARKDOWN
from workers.evaluation.result import read

if TYPE_CHECKING:
    from workers.cli import Subparsers

EPILOG = """examples:
  tollgate-worker report var/evaluations/scribe-int8 --out var/evaluations/scribe-int8
  tollgate-worker report var/evaluations/*/evaluation.json --out var/reports/scribe
  tollgate-worker report var/evaluations/* --out var/reports/scribe --format json

Writes report.html, a page that needs nothing else, and report.md with plots/*.svg beside it. Several evaluations are
compared: quality against memory and speed with the Pareto front, and each measure of all versions side by side.
Exits 0 also where a version may not serve: `tollgate-worker evaluate` is what judges.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "report",
        help="show evaluations as a page with plots, several versions compared",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "evaluations",
        nargs="+",
        type=Path,
        metavar="EVALUATION",
        help="an evaluation.json, or the directory that has one",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the report goes")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="of what is printed")


def run(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    found = [read(path) for path in arguments.evaluations]
    write(found, out)
    said = summaries(found)
    if arguments.format == "json":
        print(json.dumps({"report": str(out / HTML), "versions": [one.document() for one in said]}, indent=2))
    else:
        _show(said)
        print(f"{out / HTML}\n{out / MARKDOWN}")
    return 0


def _show(said: Sequence[Summary]) -> None:
    table = Table()
    for place, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if place in (0, 1, len(COLUMNS) - 1) else "right")
    for one in said:
        table.add_row(*map(plain, one.cells()))
    # A pipe has no width, and figures cut off are no figures.
    Console(width=None if sys.stdout.isatty() else 1000, markup=False, highlight=False).print(table)
