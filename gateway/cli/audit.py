"""`tollgate audit`: the ledger held against the workers' own counters of tokens."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.cli.common import Commands, add_command, add_config, complain
from gateway.cli.report import moment, wrong_span

if TYPE_CHECKING:
    from gateway.audit.drift import Standing
    from gateway.ledger.record import Reading
    from gateway.ledger.store import Books, Snapshot
    from gateway.table import Table

PATIENCE_SECONDS = 5.0  # beyond two intervals, for every gateway to say that it has nothing under way

_DETAILS = """\
Between two readings of a worker's counters at which nobody's request was under way, the worker's tokens are the
ledger's: as measured, and as estimates were corrected. What nothing explains is drift, as of traffic that reaches the
worker past the gateways. `unobserved` is time of an engine that ended before its counters were read again.

exit status: 1 when a worker's drift is above `metering: {audit: {drift: …}}` of gateway.yaml

examples:
  tollgate audit
  tollgate audit --since 48h --worker gpu-1
  tollgate audit --now --format json
"""


def register(commands: Commands) -> None:
    parser = add_command(commands, "audit", "hold the ledger against the workers' own counters", _DETAILS, run)
    parser.add_argument("--since", type=moment, metavar="TIME", help="a date, an ISO time or a duration; default: 24h")
    parser.add_argument("--worker", metavar="NAME", help="only this one")
    parser.add_argument(
        "--now", action="store_true", help="read the workers now, and wait until what they say can be compared"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: %(default)s")
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    from gateway.config import ConfigError, load
    from gateway.ledger.opening import open_books
    from gateway.ledger.store import LedgerError
    from gateway.table import configured

    if wrong_span(arguments.since, None, "--since"):
        return 2
    since = time.time() - 86_400.0 if arguments.since is None else arguments.since
    try:
        table = load(arguments.config)
        if arguments.worker is not None and configured(arguments.worker, table.workers) not in table.workers:
            complain(f"--worker {arguments.worker}: write one of {', '.join(table.workers)}")
            return 2
        books = open_books(table.settings.ledger)
        fresh = _read_now(table, arguments.worker) if arguments.now else []
        found = _found(books, table, since, fresh)
        for one in fresh:
            if not any(one.worker == standing.worker and standing.exact_through >= one.at for standing in found):
                complain(f"worker {one.worker}: {_why_not(books, table, one)}, so compared as of its last quiet moment")
    except (ConfigError, LedgerError) as error:
        complain(error)
        return 1
    if arguments.worker is not None:
        found = [one for one in found if one.worker == arguments.worker]
    alarm = table.settings.metering.audit_drift
    {"table": _print_table, "json": _print_json}[arguments.format](found, alarm)
    return 1 if any(one.ratio > alarm for one in found) else 0


def _found(books: Books, table: Table, since: float, fresh: Sequence[Reading]) -> list[Standing]:
    """With `fresh` readings: once all gateways have said what they had under way then, or cannot be waited for."""
    deadline = time.monotonic() + 2 * table.settings.metering.readings + PATIENCE_SECONDS
    idle = [one for one in fresh if one.running <= 0 and one.waiting <= 0]  # what an engine was busy with then stays so
    while True:
        found = _standings(books, table, since, fresh)
        exact = {one.worker: one.exact_through for one in found}
        if all(exact.get(one.worker, 0.0) >= one.at for one in idle) or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def _standings(books: Books, table: Table, since: float, fresh: Sequence[Reading]) -> list[Standing]:
    """What was audited, and what an audit would say of the rest."""
    from gateway.audit.drift import standings
    from gateway.audit.examine import Terms, examine
    from gateway.ledger import audits

    now = time.time()
    with books.snapshot() as ledger:
        found = audits.since(ledger, since)
        for worker in audits.workers(ledger):
            more = [one for one in fresh if one.worker == worker]
            terms = Terms(now, now, frozenset(_ended(ledger, table, worker)), False, {})
            found += [one for one in examine(ledger, worker, terms, more).audits if one.ended_at > since]
    return [one for _, one in sorted(standings(sorted(found)).items())]


def _why_not(books: Books, table: Table, fresh: Reading) -> str:
    """What kept a reading from being compared."""
    from gateway.audit.marks import SILENT_SECONDS, heard
    from gateway.ledger import audits

    if fresh.running > 0 or fresh.waiting > 0:
        return f"its engine is busy ({max(0, fresh.running)} running, {max(0, fresh.waiting)} waiting)"
    now = time.time()
    with books.snapshot() as ledger:
        last = audits.last_exact(ledger, fresh.worker)
        since = max(now - SILENT_SECONDS, 0.0 if last is None else last.ended_at)
        others = heard(audits.readings(ledger, fresh.worker, since), _ended(ledger, table, fresh.worker))
    awaited = sorted(others.awaited(fresh.at, now), key=lambda one: (not one.in_flight, one.at))
    if not awaited:
        return "a request ended just before it was read"
    first = awaited[0]
    who, age = f"the gateway process {first.source}", now - first.at
    if first.in_flight:
        return f"{who} had requests under way there ({first.in_flight}, {age:.0f} s ago)"
    return (
        f"{who} has not been heard of for {age:.0f} s, and did not say that it ends (it was killed, or its records are "
        f"not in the ledger yet: it is waited for until {SILENT_SECONDS:.0f} s have passed)"
    )


def _ended(ledger: Snapshot, table: Table, worker: str) -> set[str]:
    """The processes of this machine whose journals are in the ledger, whole: nothing is to come from them."""
    from gateway.ledger import audits
    from gateway.ledger.journal.reader import journals
    from gateway.ledger.location import is_sqlite

    if not is_sqlite(table.settings.ledger):
        return set()
    return audits.sources(ledger, worker) - set(journals(table.settings.metering.journal))


def _read_now(table: Table, only: str | None) -> list[Reading]:
    import asyncio

    from gateway.engines import DIALECTS
    from gateway.fleet.discovery import stands_for_many
    from gateway.fleet.gauge import POLL_SECONDS, SHARP_SECONDS
    from gateway.fleet.probes import Clients, ProbeFailed, Prober
    from gateway.ledger.record import Reading
    from gateway.routing.types import WorkerView

    async def read() -> list[Reading]:
        clients = Clients()
        found: list[Reading] = []
        try:
            for worker in table.workers.values():
                if only not in (None, worker.name) or worker.engine == "openai":
                    continue
                if stands_for_many(worker):
                    complain(f"worker {worker.name}: what is behind its address is only read by gateways that run")
                    continue
                prober = Prober(clients.trusting(worker.ca), WorkerView(worker=worker), DIALECTS[worker.engine])
                began = time.monotonic()
                try:
                    load = await prober.load(POLL_SECONDS)
                except ProbeFailed as error:
                    complain(f"worker {worker.name}: {error}")
                    continue
                if time.monotonic() - began > SHARP_SECONDS:
                    complain(f"worker {worker.name}: too slow to say when its counters were as it says")
                    continue
                if load.prompt_tokens < 0:
                    complain(f"worker {worker.name}: its engine has no counters of tokens")
                    continue
                names = worker.name, worker.model, worker.version
                gauges, counters = load[:3], (load.prompt_tokens, load.output_tokens, load.started)
                found.append(Reading(time.time(), "", *names, 0, True, 0, 0, *gauges, *counters))
        finally:
            await clients.close()
        return found

    return asyncio.run(read())


def _print_table(found: Sequence[Standing], alarm: float) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    table = RichTable()
    table.add_column("worker")
    for name in ("engine", "ledger", "corrected", "drift", "drift %", "uncertain", "estimated", "unobserved"):
        table.add_column(name, justify="right")
    table.add_column("audited through")
    for one in found:
        table.add_row(
            one.worker,
            *(f"{number:,}" for number in (one.engine, one.ledger)),
            f"{one.corrected:+,}" if one.corrected else "0",
            f"{one.drift:,}",
            f"{one.ratio:.3%}" + (" !" if one.ratio > alarm else ""),
            f"{one.slack:,}",
            f"{one.estimated:,}",
            f"{one.unobserved_seconds:,.0f} s",
            _written(one.audited_through),
        )
    # A pipe has no width, and a table with its figures cut off is none.
    Console(width=None if sys.stdout.isatty() else 1000, markup=False, highlight=False).print(table)


def _print_json(found: Sequence[Standing], alarm: float) -> None:
    workers = [{**one._asdict(), "drift_ratio": one.ratio} for one in found]
    print(json.dumps({"workers": workers, "alarm": alarm}, indent=2, ensure_ascii=False))


def _written(moment: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if moment else "never"
