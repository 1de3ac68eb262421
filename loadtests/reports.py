"""`python -m loadtests.reports`: how long reports take over ten million attempts, in an SQLite ledger made for it.

python -m loadtests.reports                         # about two gigabytes and three minutes, in a temporary directory
python -m loadtests.reports --rows 1_000_000 --keep ledger.db
python -m loadtests.reports --keep ledger.db        # once more over one that was kept

A month of attempts of 20 tenants, 2 keys each, on 10 workers, with 40 users and 4 teams to a tenant. Exit status 0:
each of them took less than --within seconds; 1: one took longer; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.ledger.days import SETTLED, DaySums
from gateway.ledger.report import build
from gateway.ledger.sqlite import SqliteStore

START = 1_793_491_200  # 2026-11-01T00:00Z
HOURS = 30 * 24
TENANTS, KEYS, WORKERS, USERS, TEAMS = 20, 2, 10, 40, 4
RATE = 1_100_000_000  # nano-USD an hour of each worker
ROWS_AT_ONCE = 500_000

REPORTS: tuple[tuple[str, tuple[str, ...], float | None], ...] = (
    ("by tenant", ("tenant",), None),
    ("by tenant, model, version", ("tenant", "model", "version"), None),
    ("by worker and day", ("worker", "day"), None),
    ("by tenant and hour", ("tenant", "hour"), None),
    ("by outcome", ("outcome",), None),
    ("by tenant, the last 24 h from the middle of an hour", ("tenant",), 24 * 3600 - 1800),
    ("by user", ("user",), None),
    ("by tag:team and tenant", ("tag:team", "tenant"), None),
    ("by user, the last 24 h from the middle of an hour", ("user",), 24 * 3600 - 1800),
)

_LINES = f"""
    WITH RECURSIVE
        tenant (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM tenant WHERE n < {TENANTS - 1}),
        key (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM key WHERE n < {KEYS - 1}),
        worker (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM worker WHERE n < {WORKERS - 1})
    INSERT INTO lines (id, tenant, key_id, endpoint, model, version, adapter, route, worker, cost_basis)
    SELECT 1 + worker.n + {WORKERS} * (key.n + {KEYS} * tenant.n), 'tenant-' || tenant.n, 'key-' || key.n,
        'chat.completions', 'model-' || (worker.n / 4), CASE worker.n % 2 WHEN 0 THEN 'fp8' ELSE 'int4' END, '',
        'direct', 'worker-' || worker.n, CASE worker.n WHEN 0 THEN 'token_price' ELSE 'gpu_time' END
    FROM tenant, key, worker
"""
_IDLE = f"""
    WITH RECURSIVE worker (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM worker WHERE n < {WORKERS - 1})
    INSERT INTO lines (id, tenant, key_id, endpoint, model, version, adapter, route, worker, cost_basis)
    SELECT 100000 + n, '__idle__', '', '', 'model-' || (n / 4), '', '', '', 'worker-' || n, 'gpu_time' FROM worker
"""
_LABELS = f"""
    WITH RECURSIVE
        tenant (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM tenant WHERE n < {TENANTS - 1}),
        person (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM person WHERE n < {USERS - 1})
    INSERT INTO labels (id, model_asked, user, tags)
    SELECT 1001 + person.n + {USERS} * tenant.n, 'auto', 'user-' || tenant.n || '-' || person.n,
        '{{"team":"team-' || (person.n % {TEAMS}) || '"}}'
    FROM tenant, person
"""
# Steps through tenants, keys, workers and people that no two of them share a factor with the number of.
_ENTRIES = f"""
    WITH RECURSIVE numbers (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last - 1),
    drawn AS (SELECT n, n * 7919 % {TENANTS * KEYS * WORKERS} AS line, n * 104729 / 13 % {USERS} AS person FROM numbers)
    INSERT INTO entries
    SELECT printf('req_%016x%012x', n, n), 1, 0, 1 + line, 1001 + person + {USERS} * (line / {KEYS * WORKERS}),
        {START} + n * {HOURS * 3600}.0 / :rows, {START} + n * {HOURS * 3600}.0 / :rows + 0.001, 0.125, 0.75,
        CASE n % 50 WHEN 0 THEN 'aborted' ELSE 'ok' END, 200, 0, 1, 200 + n % 800, n % 200, 20 + n % 180,
        5000000 + n % 9000000, 1000 + n % 5000, 1
    FROM drawn
"""
_ROLLUPS = """
    INSERT INTO rollups
    SELECT CAST(started_at / 3600 AS INTEGER) * 3600 AS hour, line, outcome, SUM(final), COUNT(*), SUM(prompt_tokens),
        SUM(cached_tokens), SUM(output_tokens), SUM(gpu_ns), SUM(cost_nanousd)
    FROM entries WHERE started_at >= :start AND started_at < :end GROUP BY 1, 2, 3
"""
_ALLOCATIONS = """
    INSERT INTO allocations (hour, line, label, cost_nanousd)
    SELECT CAST(started_at / 3600 AS INTEGER) * 3600 AS hour, line, label, SUM(gpu_ns) / 60
    FROM entries JOIN lines ON lines.id = line
    WHERE started_at >= :start AND started_at < :end AND cost_basis = 'gpu_time' GROUP BY 1, 2, 3
"""
_IDLE_HOURS = """
    INSERT INTO allocations (hour, line, label, cost_nanousd)
    SELECT :start, idle.id, (SELECT id FROM labels WHERE (model_asked, user, tags) = ('', '', '')),
        :rate - COALESCE(SUM(cost_nanousd), 0)
    FROM lines AS idle LEFT JOIN lines ON lines.worker = idle.worker
    LEFT JOIN allocations ON allocations.line = lines.id AND hour = :start
    WHERE idle.tenant = '__idle__' GROUP BY idle.id
"""
_WINDOWS = """
    WITH RECURSIVE minute (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM minute WHERE n < 59)
    INSERT INTO windows (worker, "start", "end", hourly, cost_nanousd, busy_ns, attributed_at)
    SELECT worker, :start + 60 * n, :start + 60 * n + 60, :rate, :rate / 60, 0, :start + 60 * n + 61
    FROM lines, minute WHERE tenant = '__idle__'
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.reports", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000, metavar="N", help="attempts (default 10,000,000)")
    parser.add_argument("--within", type=float, default=5.0, metavar="S", help="what each may take (default 5)")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="make the ledger there, or read the one that is")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory(prefix="tollgate-reports-") as scratch:
        path = asked.keep or Path(scratch) / "ledger.db"
        if not path.exists():
            began = time.monotonic()
            make(path, asked.rows)
            console.print(f"{asked.rows:,} attempts made in {time.monotonic() - began:.0f} s, {_gigabytes(path)}")
        took = measure(path)
    table = Table("report", "rows", "seconds", "of processor")
    for name, rows, seconds, processor in took:
        table.add_row(name, f"{rows:,}", f"{seconds:.2f}", f"{processor:.2f}")
    console.print(table)
    late = [name for name, _, seconds, _ in took if seconds > asked.within]
    console.print(f"over {asked.within:g} s: {', '.join(late)}" if late else f"each within {asked.within:g} s")
    return 1 if late else 0


def make(path: Path, rows: int) -> None:
    """A ledger with that many attempts, their sums, and a bill of 60 windows an hour for each worker."""
    SqliteStore(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA cache_size = -200000")
        for statement in (_LINES, _IDLE, _LABELS):
            connection.execute(statement)
        for first in range(0, rows, ROWS_AT_ONCE):
            connection.execute(_ENTRIES, {"first": first, "last": min(first + ROWS_AT_ONCE, rows), "rows": rows})
        for hour in range(HOURS):
            span = {"start": START + hour * 3600, "end": START + (hour + 1) * 3600, "rate": RATE}
            for statement in (_ROLLUPS, _ALLOCATIONS, _IDLE_HOURS, _WINDOWS):
                connection.execute(statement, span)
        connection.execute("PRAGMA journal_mode = WAL")
    with closing(SqliteStore(path)) as store:
        days = DaySums()
        while days.step(store, START + HOURS * 3600 + SETTLED):
            pass


def measure(path: Path) -> list[tuple[str, int, float, float]]:
    """Each of the REPORTS: its name, its rows, and how many seconds it took, altogether and of a processor."""
    took: list[tuple[str, int, float, float]] = []
    for name, by, back in REPORTS:
        since = None if back is None else START + HOURS * 3600 - back
        began, worked = time.monotonic(), time.process_time()
        report = build(f"sqlite:///{path}", by, since)
        took.append((name, len(report.rows), time.monotonic() - began, time.process_time() - worked))
    return took


def _gigabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e9:.1f} GB"


if __name__ == "__main__":
    sys.exit(main())
