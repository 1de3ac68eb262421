"""The ledger in an SQLite file: schema, writing, summing.

The file is in WAL mode, so reports read while gateways write, and several processes may write one file. A commit
survives the death of the process at once, and the loss of power after the next checkpoint (synchronous=NORMAL).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TypeVar

from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from gateway.ledger.record import Attempt
from gateway.ledger.schema import VERSION_TABLE, migrations, statements
from gateway.ledger.store import LedgerError, Written

T = TypeVar("T")

BUSY_SECONDS = 2.0  # how long SQLite itself waits for another writer, before the ledger's own retry

# Rows per INSERT. One statement per row would be simpler, but SQLite releases the interpreter's lock around each, and
# beside a busy event loop every single row then waits up to 5 ms to get it back: 1,200 us a row instead of 7 us.
ROWS_PER_INSERT = 128

_COLUMNS = ",".join(Attempt._fields)
_ROW = f"({','.join('?' * len(Attempt._fields))})"

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
    "day": "strftime('%Y-%m-%d', CAST(started_at AS INTEGER), 'unixepoch')",
    "hour": "strftime('%Y-%m-%dT%H:00Z', CAST(started_at AS INTEGER), 'unixepoch')",
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
        with _explained(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._open()

    def write(self, batch: Sequence[Attempt]) -> Written:
        with _explained(self._path):
            connection = self._current()
            try:
                connection.execute("BEGIN IMMEDIATE")
                written = _insert_all(connection, batch)
                connection.execute("COMMIT")
            except sqlite3.Error:
                self.close()  # which rolls back; a fresh connection is the surest way out of most troubles
                raise
            return written

    def spent(self, tenant: str, since: float) -> int:
        with reading(self._path) as connection:
            row = connection.execute(
                "SELECT COALESCE(SUM(cost_nanousd), 0) FROM attempts WHERE tenant = ? AND started_at >= ?",
                (tenant, since),
            ).fetchone()
        return int(row[0])

    def close(self) -> None:
        connection, self._connection = self._connection, None
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
    nanoseconds of worker time and nano-USD. Worker time is rounded per attempt, so any grouping has the same sum.
    """
    names = "".join(f"{DIMENSIONS[name]}, " for name in by)
    places = ", ".join(str(place) for place in range(1, len(by) + 1))
    grouping = f"GROUP BY {places} ORDER BY {places}" if by else "HAVING COUNT(*) > 0"
    # Few requests have more than one attempt; `last` is the one of the highest number, the end of its id (SQLite takes
    # the other columns of a MAX from the row that has it).
    query = f"""
        WITH span AS (SELECT * FROM attempts WHERE started_at >= :since AND started_at < :until),
        retried AS MATERIALIZED (
            SELECT request_id, attempt_id AS last, MAX(CAST(SUBSTR(attempt_id, LENGTH(request_id) + 2) AS INTEGER))
            FROM span GROUP BY request_id HAVING COUNT(*) > 1
        )
        SELECT {names}
            SUM(last IS NULL OR last = attempt_id), COUNT(*),
            SUM(prompt_tokens), SUM(cached_tokens), SUM(output_tokens),
            SUM(CAST(ROUND(gpu_seconds * 1e9) AS INTEGER)), SUM(cost_nanousd)
        FROM span LEFT JOIN retried USING (request_id)
        {grouping}
    """
    ends = {"since": float("-inf") if since is None else since, "until": float("inf") if until is None else until}
    with reading(path) as connection:
        return connection.execute(query, ends).fetchall()


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


def _insert_all(connection: sqlite3.Connection, batch: Sequence[Attempt]) -> Written:
    added = 0
    refused: list[tuple[Attempt, str]] = []
    for rows in in_powers_of_two(batch):
        try:
            added += _insert(connection, rows)
        except _BAD_VALUE:
            for row in rows:
                try:
                    added += _insert(connection, [row])
                except _BAD_VALUE as error:
                    refused.append((row, f"{type(error).__name__}: {error}"))
    return Written(added, refused)


def _insert(connection: sqlite3.Connection, rows: Sequence[Attempt]) -> int:
    """Add rows with one statement; how many were new."""
    places = ",".join([_ROW] * len(rows))
    statement = f"INSERT INTO attempts ({_COLUMNS}) VALUES {places} ON CONFLICT (attempt_id) DO NOTHING"
    return connection.execute(statement, tuple(chain.from_iterable(rows))).rowcount


def in_powers_of_two(batch: Sequence[T]) -> Iterator[Sequence[T]]:
    """Runs of ROWS_PER_INSERT, then of halving lengths: few distinct statements, so SQLite keeps them prepared."""
    start, size = 0, ROWS_PER_INSERT
    while start < len(batch):
        while size > len(batch) - start:
            size //= 2
        yield batch[start : start + size]
        start += size


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
