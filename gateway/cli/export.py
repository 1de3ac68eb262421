"""`tollgate export`: the ledger's rows for other programs."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from gateway.cli.common import Commands, add_command, add_config, complain
from gateway.cli.report import moment, names, wrong_span

if TYPE_CHECKING:
    from gateway.ledger.export.columns import Column, Row
    from gateway.ledger.store import Snapshot

_DETAILS = """\
csv, json (an object on each line) and parquet hold every attempt and every correction, or with --by the sums of
`tollgate report`. focus holds the bill as FOCUS 1.3 has it (FinOps Open Cost and Usage Specification), a row for each
hour, line of the bill and set of tags; as CSV, or as Parquet where the file's name ends in .parquet. BilledCost sums to
the bill, and of each worker's hour to what that hour cost. Times are as in `tollgate report --help`; FOCUS has the
hours that begin in them. Rows stream: memory does not grow with their number. A file appears when it is whole.
In CSV a text that a spreadsheet would take for a formula has a ' before it; the other formats have it as it was said.

examples:
  tollgate export --format csv --from 2026-11-01 --to 2026-12-01 -o november.csv
  tollgate export --format json --from 24h | jq 'select(.outcome == "aborted")'
  tollgate export --format parquet --from 30d -o attempts.parquet
  tollgate export --format parquet --by tenant,model,day -o days.parquet
  tollgate export --format focus --from 2026-11-01 --to 2026-12-01 -o november.focus.csv
"""
ROWS_AT_ONCE = 10_000
FORMATS = ("csv", "json", "parquet", "focus")


def register(commands: Commands) -> None:
    parser = add_command(commands, "export", "write the ledger's rows to a file", _DETAILS, run)
    parser.add_argument("--format", choices=FORMATS, default="csv", help="default: %(default)s")
    parser.add_argument("--from", dest="since", type=moment, metavar="TIME", help="only requests from then on")
    parser.add_argument("--to", dest="until", type=moment, metavar="TIME", help="only requests before")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument("--by", type=names, metavar="NAME,…", help="sums by these dimensions, no single attempts")
    parser.add_argument(
        "--account", default="tollgate", metavar="ID", help="BillingAccountId of FOCUS (default: %(default)s)"
    )
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    from gateway.config import ConfigError, ledger_location
    from gateway.ledger.dimensions import is_dimension
    from gateway.ledger.export.writers import NoParquet
    from gateway.ledger.opening import open_books
    from gateway.ledger.store import LedgerError

    output: Path | None = arguments.output
    parquet = arguments.format == "parquet" or (
        arguments.format == "focus" and output is not None and output.suffix == ".parquet"
    )
    if arguments.by is not None and arguments.format == "focus":
        complain("--by: FOCUS has rows of its own; leave it out, or choose another --format")
        return 2
    if arguments.by is not None and (wrong := [name for name in arguments.by if not is_dimension(name)]):
        complain(f"--by {','.join(wrong)}: `tollgate report --help` lists the dimensions")
        return 2
    if wrong_span(arguments.since, arguments.until):
        return 2
    if parquet and output is None and sys.stdout.isatty():
        complain("Parquet is not for terminals: name a file with -o")
        return 2
    try:
        with open_books(ledger_location(arguments.config)).snapshot() as ledger:
            plan = _plan(ledger, arguments)
            try:
                with _opened(output) as file:
                    _write(file, "parquet" if parquet else arguments.format, plan)
            except OSError as error:  # here, for it is not the ledger's
                raise _OutputError(error) from error
        for note in plan.notes:
            complain(note)
    except (ConfigError, LedgerError, NoParquet) as error:
        complain(error)
        return 1
    except _OutputError as error:
        if isinstance(error.cause, BrokenPipeError):
            raise error.cause from None
        complain(f"{output or 'standard output'} cannot be written ({error.cause.strerror})")
        return 1
    return 0


class _OutputError(Exception):
    def __init__(self, cause: OSError) -> None:
        super().__init__(cause)
        self.cause = cause


class _Plan(NamedTuple):
    columns: Sequence[Column]
    total: int  # steps, about
    batches: Iterator[tuple[Sequence[Row], int]]  # rows, and how many steps that was
    notes: Sequence[str]


def _plan(ledger: Snapshot, arguments: argparse.Namespace) -> _Plan:
    from gateway.ledger import dimensions
    from gateway.ledger.export import attempts, focus, totals
    from gateway.ledger.retention import pruned_before
    from gateway.ledger.shared import shared_out
    from gateway.ledger.sums import span

    if arguments.by is not None:
        columns, rows, notes = totals.read(ledger, arguments.by, arguments.since, arguments.until)
        return _Plan(columns, 1, iter([(rows, 1)]), notes)
    pruned = pruned_before(ledger)
    within = span(arguments.since, arguments.until, pruned)
    if arguments.format == "focus":
        hours = focus.hours(ledger, within)
        found = focus.rows(ledger, hours, pruned, arguments.account, time.time())
        notes = [note.replace("cost_usd", "BilledCost") for note in shared_out(ledger, within).notes()]
        return _Plan(focus.COLUMNS, len(hours), ((rows, 1) for rows in found), notes)
    notes = []
    if within.start < pruned:
        notes = [
            f"rows of attempts before {dimensions.written_moment(pruned)} have been removed (`metering.retention`)"
        ]
    return _Plan(attempts.COLUMNS, attempts.count(ledger, within), _batched(attempts.rows(ledger, within)), notes)


def _batched(rows: Iterator[Row]) -> Iterator[tuple[Sequence[Row], int]]:
    while batch := list(islice(rows, ROWS_AT_ONCE)):
        yield batch, len(batch)


def _write(file: IO[bytes], form: str, plan: _Plan) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from gateway.ledger.export.writers import CsvWriter, JsonWriter, ParquetWriter

    kinds = {"csv": CsvWriter, "focus": CsvWriter, "json": JsonWriter, "parquet": ParquetWriter}
    writer = kinds[form](file, plan.columns)
    quiet = not sys.stderr.isatty() or (file is sys.stdout.buffer and sys.stdout.isatty())
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("exporting", total=plan.total)
        for rows, steps in plan.batches:
            writer.write(rows)
            progress.advance(task, steps)
    writer.close()


@contextmanager
def _opened(output: Path | None) -> Generator[IO[bytes]]:
    """A file takes its name when it is whole; what was there before stays until then."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if output.exists() and not output.is_file():  # a device or a pipe is written to: a file must not take its place
        with output.open("wb") as file:
            yield file
        return
    output = output.resolve()  # a link stays one
    partial = output.with_name(f"{output.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
