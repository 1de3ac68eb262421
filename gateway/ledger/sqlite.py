"""The ledger in an SQLite file: the only file that speaks to SQLite.

The file is in WAL mode, so reports read while gateways write, and several processes may write one file. A commit
survives the death of the process at once, and the loss of power after the next checkpoint (synchronous=NORMAL).
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from gateway.ledger.record import Attempt, Label, Line, Reading
from gateway.ledger.rollup import Rollup, sums_of
from gateway.ledger.schema import VERSION_TABLE, latest, pending
from gateway.ledger.sieve import sift
from gateway.ledger.store import NO_VALUES, Batch, Change, LedgerError, Snapshot, Value, Written
from gateway.ledger.sums import spent
from gateway.ledger.text import keepable

logger = logging.getLogger("tollgate.ledger")

BUSY_SECONDS = 2.0  # how long SQLite itself waits for another writer, before the ledger's own retry
MOST_LABELS = 100_000  # kept by one connection

_ENTRY = f"INSERT INTO entries VALUES ({','.join('?' * len(Attempt._fields))}) ON CONFLICT DO NOTHING"
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


class SqliteBooks:
    """The file at `path`, for reading; it need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def snapshot(self) -> Generator[Snapshot]:
        path = self._path
        if not path.exists():
            raise LedgerError(
                f"there is no ledger at {path.absolute()}: the first request through the gateway writes it"
            )
        with _explained(path), closing(_connect(path, "ro")) as connection:
            if _version(connection, path) != latest("sqlite"):
                raise LedgerError(
                    f"the ledger {path} has an older schema: start the gateway once to bring it up to date"
                )
            connection.execute("BEGIN")
            yield _Statements(connection)

    def spent(self, tenant: str, since: float) -> int:
        with self.snapshot() as ledger:
            return spent(ledger, tenant, since)


class SqliteStore(SqliteBooks):
    """Opens `path` at once, making the file and its directory where missing, and brings its schema up to date.

    A file that disappears later is not made anew: an empty second bill is worse than a ledger that says it is gone. So
    only a program that begins makes one; without `make` a file that is not there is a LedgerError.
    `prepare` is called with every new connection, for PRAGMAs of one's own.
    """

    def __init__(
        self, path: Path, prepare: Callable[[sqlite3.Connection], None] | None = None, *, make: bool = True
    ) -> None:
        super().__init__(path)
        self._prepare = prepare
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._names = _Names()
        with _explained(path):
            if make:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._open()

    def write(self, batch: Batch) -> Written:
        with _explained(self._path):
            connection = self._current()
            try:
                connection.execute("BEGIN IMMEDIATE")
                written = self._names.insert(connection, batch.attempts)
                _insert_readings(connection, batch.readings)
                connection.execute("COMMIT")
            except BaseException:
                self.close()  # which rolls back; a fresh connection is the surest way out of most troubles
                raise
            return written

    @contextmanager
    def change(self) -> Generator[Change]:
        with _explained(self._path):
            connection = self._current()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield _Statements(connection)
                connection.execute("COMMIT")
            except BaseException:
                self.close()
                raise

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


class _Statements:
    """A Snapshot, and a Change, of the transaction that a connection is in."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, query: str, values: Mapping[str, Value] = NO_VALUES) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def stream(self, query: str, values: Mapping[str, Value] = NO_VALUES) -> Iterator[tuple[Any, ...]]:
        return self._connection.execute(query, values)

    def add(self, statement: str, rows: Sequence[Mapping[str, Value]]) -> int:
        return self._connection.executemany(statement, rows).rowcount


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # isolation_level None: transactions are written out here. One thread at a time uses a connection, not always the
    # one that opened it.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("SELECT FLOOR(0.5)")
    except sqlite3.OperationalError:  # SQLite may be built without
        connection.create_function("FLOOR", 1, math.floor, deterministic=True)
    return connection


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
    if _version(connection, path) == latest("sqlite"):
        return
    connection.execute("BEGIN IMMEDIATE")  # of several processes that start together, one migrates
    version = _version(connection, path)
    if version == 0:
        connection.execute(VERSION_TABLE)
    for number, script in pending("sqlite", version):
        for statement in script:
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
    if version > latest("sqlite"):
        raise LedgerError(
            f"the ledger {path} was written by a newer Tollgate (its schema is {version}, this one knows "
            f"{latest('sqlite')}): upgrade Tollgate, or name another file under `ledger:`"
        )
    return version


_Row = tuple[Attempt, tuple[object, ...]]


class _Names:
    """The numbers of lines and labels, as far as one connection has met them, and the insertion of what they name."""

    def __init__(self) -> None:
        self._lines: dict[Line, int] = {}
        self._labels: dict[Label, int] = {}

    def insert(self, connection: sqlite3.Connection, attempts: Sequence[Attempt]) -> Written:
        """In the transaction under way."""
        if len(self._labels) > MOST_LABELS:
            self._labels.clear()
        rows: list[_Row] = []
        nameless: list[tuple[Attempt, str]] = []
        for attempt in attempts:
            try:
                rows.append((attempt, self._row(connection, attempt)))
            except _BAD_VALUE as error:
                nameless.append((attempt, f"{type(error).__name__}: {error}"))
        added, refused = sift(rows, partial(self._add, connection), _BAD_VALUE)
        return Written(added, [*nameless, *((attempt, why) for (attempt, _), why in refused)])

    def _add(self, connection: sqlite3.Connection, rows: Sequence[_Row]) -> int:
        """With their sums; all or none."""
        with _savepoint(connection):
            new = [attempt for attempt, _ in rows]
            before = connection.total_changes
            connection.executemany(_ENTRY, [row for _, row in rows])
            if connection.total_changes - before < len(rows):  # some were there already: one by one, to know which
                connection.execute("ROLLBACK TO batch")
                new = [attempt for attempt, row in rows if connection.execute(_ENTRY, row).rowcount]
            connection.executemany(_ROLLUP, [self._rollup(rollup) for rollup in sums_of(new)])
            _mark_late(connection, new)
        return len(new)

    def _row(self, connection: sqlite3.Connection, attempt: Attempt) -> tuple[object, ...]:
        line, label = self._lines.get(attempt.line), self._labels.get(attempt.label)
        if line is None:
            line = self._lines[attempt.line] = _number(connection, "lines", attempt.line)
        if label is None:
            kept = Label(*map(keepable, attempt.label))
            label = self._labels[attempt.label] = _number(connection, "labels", kept)
        return (*attempt[:3], line, label, *attempt[5:])

    def _rollup(self, rollup: Rollup) -> tuple[object, ...]:
        return (rollup.hour, self._lines[rollup.line], *rollup[2:])


def _mark_late(connection: sqlite3.Connection, attempts: Sequence[Attempt]) -> None:
    """Those that lie in windows that are shared out already. Not by a trigger: that takes 7 us of each row."""
    billed: dict[str, float] = dict(connection.execute("SELECT worker, through FROM billed"))
    late = [
        (worker, one.opened_at, max(one.opened_at, one.opened_at + one.duration_seconds))
        for one in attempts
        if one.opened_at < billed.get(worker := one.line.worker, -inf)
    ]
    if late:
        connection.executemany("INSERT OR IGNORE INTO late VALUES (?, ?, ?)", late)


def _insert_readings(connection: sqlite3.Connection, readings: Sequence[Reading]) -> None:
    def add(some: Sequence[Reading]) -> int:
        with _savepoint(connection):
            return connection.executemany(_READING, some).rowcount

    _, refused = sift(readings, add, _BAD_VALUE)
    for one, why in refused:
        logger.warning("a reading of worker %s is not kept (%s)", one.worker, why)


@contextmanager
def _savepoint(connection: sqlite3.Connection) -> Generator[None]:
    """What is done inside is done whole or, where a value is bad, not at all."""
    connection.execute("SAVEPOINT batch")
    try:
        yield
    except _BAD_VALUE:
        connection.execute("ROLLBACK TO batch")
        connection.execute("RELEASE batch")
        raise
    connection.execute("RELEASE batch")


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
