"""The ledger in an SQLite file: schema, writing, summing.

The file is in WAL mode, so reports read while gateways write, and several processes may write one file. A commit
survives the death of the process at once, and the loss of power after the next checkpoint (synchronous=NORMAL).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager, suppress
from math import isinf
from pathlib import Path

from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from gateway.ledger.record import Attempt, Label, Line, Reading
from gateway.ledger.rollup import HOUR, Rollup, sums_of
from gateway.ledger.schema import VERSION_TABLE, migrations, statements
from gateway.ledger.store import Batch, LedgerError, Written

BUSY_SECONDS = 2.0  # how long SQLite itself waits for another writer, before the ledger's own retry


MOST_LABELS = 100_000  # kept by one connection

_ENTRY = f"INSERT INTO entries VALUES ({','.join('?' * 18)}) ON CONFLICT DO NOTHING"
_READING = f"""
    INSERT INTO readings ({",".join(Reading._fields)}) VALUES ({",".join("?" * len(Reading._fields))})
    ON CONFLICT DO NOTHING
"""
_ROLLUP = """
    INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hour, line, outcome) DO UPDATE SET
    requests = requests + excluded.requests, attempts = attempts + excluded.attempts,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens, cached_tokens = cached_tokens + excluded.cached_tokens,
    output_tokens = output_tokens + excluded.output_tokens, gpu_ns = gpu_ns + excluded.gpu_ns,
    cost_nanousd = cost_nanousd + excluded.cost_nanousd
"""

# What a report may group by.
DIMENSIONS = {
    "tenant": "tenant",
    "model": "model",
    "version": "version",
    "adapter": "adapter",
    "route": "route",
    "worker": "worker",
    "key": "key_id",
    "endpoint": "endpoint",
    "outcome": "outcome",
    "day": "strftime('%Y-%m-%d', hour, 'unixepoch')",
    "hour": "strftime('%Y-%m-%dT%H:00Z', hour, 'unixepoch')",
}

# What a value that SQLite can not hold raises: the row is at fault, not the database.
_BAD_VALUE = (
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    OverflowError,
    ValueError,
    TypeError,
)

_NOT_WRITABLE = "make the file and its directory writable for this user, or name another file under `ledger:`"
_LOCKED = "another program holds it locked: end that program's transaction"
_REMEDIES = {
    sqlite3.SQLITE_CANTOPEN: _NOT_WRITABLE,
    sqlite3.SQLITE_PERM: _NOT_WRITABLE,
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database: move it away, or name another file under `ledger:`",
    sqlite3.SQLITE_CORRUPT: "it is damaged: move it away (`sqlite3 FILE .recover` salvages its rows) and start again",
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_IOERR: "look after its disk",
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
}


class SqliteStore:
    """Opens `path` at once, making the file and its directory where missing, and brings its schema up to date.

    A file that disappears later is not made anew: an empty second bill is worse than a ledger that says it is gone.
    `prepare` is called with every new connection, for PRAGMAs of one's own.
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None] | None = None) -> None:
        self._path = path
        self._prepare = prepare
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._names = _Names()
        with _explained(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._open()

    def write(self, batch: Batch) -> Written:
        with _explained(self._path):
            connection = self._current()
            try:
                connection.execute("BEGIN IMMEDIATE")
                written = self._names.insert(connection, batch.attempts)
                connection.executemany(_READING, batch.readings)
                connection.execute("COMMIT")
            except sqlite3.Error:
                self.close()  # which rolls back; a fresh connection is the surest way out of most troubles
                raise
            return written

    def spent(self, tenant: str, since: float) -> int:
        with reading(self._path) as connection:
            row = connection.execute(
                "SELECT COALESCE(SUM(cost_nanousd), 0) FROM rollups "
                "WHERE hour >= ? AND line IN (SELECT id FROM lines WHERE tenant = ?)",
                (int(since), tenant),
            ).fetchone()
        return int(row[0])

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._names = _Names()  # a transaction that is rolled back takes new ones with it
        if connection is not None:
            with suppress(sqlite3.Error):  # a broken file can fail even here, and there is nothing left to save
                connection.close()

    def _current(self) -> sqlite3.Connection:
        """The connection to the file that is at `path` now: it may have been moved away, or restored from a backup."""
        if self._connection is not None and self._identity == _identity(self._path):
            return self._connection
        self.close()
        return self._open()

    def _open(self) -> sqlite3.Connection:
        identity = _identity(self._path)
        connection = _connect(self._path, "rw")
        try:
            _switch_to_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            if self._prepare is not None:
                self._prepare(connection)
            _migrate(connection, self._path)
        except BaseException:
            connection.close()
            raise
        self._connection, self._identity = connection, identity
        return connection


@contextmanager
def reading(path: Path) -> Generator[sqlite3.Connection]:
    """A connection that reads one state of the ledger, whatever is written meanwhile."""
    with _explained(path), closing(_connect(path, "ro")) as connection:
        if _version(connection, path) != len(migrations()):
            raise LedgerError(f"the ledger {path} has an older schema: start the gateway once to bring it up to date")
        connection.execute("BEGIN")
        yield connection


def sums(path: Path, by: Sequence[str], since: float | None, until: float | None) -> list[tuple[str | int, ...]]:
    """For each combination of the DIMENSIONS `by`: those, then requests, attempts, prompt, cached and output tokens,
    nanoseconds of worker time and nano-USD. Full hours come from the rollups, what a span begins or ends with from the
    entries themselves.
    """
    names = "".join(f"{DIMENSIONS[name]}, " for name in by)
    places = ", ".join(str(place) for place in range(1, len(by) + 1))
    grouping = f"GROUP BY {places} ORDER BY {places}" if by else "HAVING COUNT(*) > 0"
    start = float("-inf") if since is None else since
    end = float("inf") if until is None else until
    first = start if isinf(start) else -(-start // HOUR) * HOUR  # the first full hour
    last = end if isinf(end) else end // HOUR * HOUR  # and the first moment after the last
    if first >= last:
        first = last = end
    query = f"""
        WITH span AS (
            SELECT hour, line, outcome, requests, attempts, prompt_tokens, cached_tokens, output_tokens, gpu_ns,
                cost_nanousd
            FROM rollups WHERE hour >= :first AND hour < :last
            UNION ALL
            SELECT CAST(started_at / {HOUR} AS INTEGER) * {HOUR}, line, outcome, final AND correction = 0,
                correction = 0, prompt_tokens, cached_tokens, output_tokens, gpu_ns, cost_nanousd
            FROM entries
            WHERE (started_at >= :start AND started_at < MIN(:first, :end))
                OR (started_at >= MAX(:last, :start) AND started_at < :end)
        )
        SELECT {names}
            SUM(requests), SUM(attempts), SUM(prompt_tokens), SUM(cached_tokens), SUM(output_tokens), SUM(gpu_ns),
            SUM(cost_nanousd)
        FROM span JOIN lines ON lines.id = span.line
        {grouping}
    """
    with reading(path) as connection:
        return connection.execute(query, {"start": start, "first": first, "last": last, "end": end}).fetchall()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # isolation_level None: transactions are written out here. One thread at a time uses a connection, not always the
    # one that opened it.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY


@retry(
    retry=retry_if_exception(_is_busy),
    stop=stop_after_delay(BUSY_SECONDS),
    wait=wait_random(0.005, 0.05),
    reraise=True,
)
def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite's own waiting does not cover this change of mode, which several processes that start together all make."""
    connection.execute("PRAGMA journal_mode = WAL")


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection, path) == len(migrations()):
        return
    connection.execute("BEGIN IMMEDIATE")  # of several processes that start together, one migrates
    version = _version(connection, path)
    if version == 0:
        connection.execute(VERSION_TABLE)
    for number, script in enumerate(migrations()[version:], start=version + 1):
        for statement in statements(script):
            connection.execute(statement)
        connection.execute("INSERT INTO ledger_schema (version) VALUES (?)", (number,))
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version of the file, 0 when it is empty."""
    tables = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return 0
    if "ledger_schema" not in tables:
        raise LedgerError(
            f"{path} is the database of another program: name a file of its own for the ledger under `ledger:`"
        )
    version = int(connection.execute("SELECT MAX(version) FROM ledger_schema").fetchone()[0])
    if version > len(migrations()):
        raise LedgerError(
            f"the ledger {path} was written by a newer Tollgate (its schema is {version}, this one knows "
            f"{len(migrations())}): upgrade Tollgate, or name another file under `ledger:`"
        )
    return version


class _Names:
    """The numbers of lines and labels, as far as one connection has met them, and the insertion of what they name."""

    def __init__(self) -> None:
        self._lines: dict[Line, int] = {}
        self._labels: dict[Label, int] = {}

    def insert(self, connection: sqlite3.Connection, attempts: Sequence[Attempt]) -> Written:
        """In the transaction under way."""
        if len(self._labels) > MOST_LABELS:
            self._labels.clear()
        refused: list[tuple[Attempt, str]] = []
        added: list[Attempt] = []
        rows = [self._row(connection, attempt) for attempt in attempts]
        before = connection.total_changes
        connection.execute("SAVEPOINT rows")
        try:
            connection.executemany(_ENTRY, rows)
            if connection.total_changes - before == len(rows):
                added = list(attempts)
        except _BAD_VALUE:
            pass
        if len(added) < len(rows):  # some are there already, or one is bad: one by one, to know which
            connection.execute("ROLLBACK TO rows")
            for attempt, row in zip(attempts, rows, strict=True):
                try:
                    if connection.execute(_ENTRY, row).rowcount:
                        added.append(attempt)
                except _BAD_VALUE as error:
                    refused.append((attempt, f"{type(error).__name__}: {error}"))
        connection.execute("RELEASE rows")
        connection.executemany(_ROLLUP, [self._rollup(rollup) for rollup in sums_of(added)])
        return Written(len(added), refused)

    def _row(self, connection: sqlite3.Connection, attempt: Attempt) -> tuple[object, ...]:
        line, label = self._lines.get(attempt.line), self._labels.get(attempt.label)
        if line is None:
            line = self._lines[attempt.line] = _number(connection, "lines", attempt.line)
        if label is None:
            label = self._labels[attempt.label] = _number(connection, "labels", attempt.label)
        return (*attempt[:3], line, label, *attempt[5:])

    def _rollup(self, rollup: Rollup) -> tuple[object, ...]:
        return (rollup.hour, self._lines[rollup.line], *rollup[2:])


def _number(connection: sqlite3.Connection, table: str, names: Line | Label) -> int:
    columns, places = ", ".join(names._fields), ", ".join("?" * len(names))
    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING", names)
    row = connection.execute(f"SELECT id FROM {table} WHERE ({columns}) = ({places})", names).fetchone()
    return int(row[0])


@contextmanager
def _explained(path: Path) -> Generator[None]:
    """Translate what SQLite and the file system raise into a LedgerError that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code; the rest is detail
        remedy = _REMEDIES.get(code, "see the SQLite message")
        raise LedgerError(f"the ledger {path} cannot be used ({error}): {remedy}") from error
    except FileNotFoundError as error:
        raise LedgerError(
            f"there is no ledger at {path}: bring it back; a gateway that starts makes a new one"
        ) from error
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be used ({error.strerror}): {_NOT_WRITABLE}") from error
