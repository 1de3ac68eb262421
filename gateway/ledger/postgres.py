"""The ledger in PostgreSQL, for several replicas: the only importer of psycopg.

Every wait has an end (for a connection, a statement, a lock, a server that is there and says nothing), and a connection
that broke is made anew once before anybody hears of it: writing again what was written changes nothing.

Writers do not wait for each other in a circle: each adds names, then entries, then sums, then readings, and each of
these in the order of its keys.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from difflib import get_close_matches
from functools import lru_cache, partial
from itertools import count
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import psycopg
from psycopg import conninfo, errors, pq
from psycopg.abc import Buffer, PQGen
from psycopg.types.numeric import NumericLoader

from gateway.ledger.arrays import columns_of_attempts, columns_of_readings, texts
from gateway.ledger.record import Attempt, Label, Line, Reading
from gateway.ledger.schema import VERSION_TABLE, latest, pending
from gateway.ledger.sieve import sift
from gateway.ledger.store import NO_VALUES, Batch, Change, LedgerAway, LedgerError, Snapshot, Value, Written
from gateway.ledger.sums import spent
from gateway.ledger.text import keepable

logger = logging.getLogger("tollgate.ledger")

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30.0  # for one statement of a writer
LOCK_SECONDS = 10.0  # of these, for others' locks
IDLE_SECONDS = 30.0  # after which the server ends a transaction whose client says nothing: it holds locks
READ_SECONDS = 120.0  # for one query of a report
READ_IDLE_SECONDS = 600.0  # between two of them: an export may be on its way to somebody slow
MIGRATION_SECONDS = 3_600.0  # for one statement of a migration
MERCY_SECONDS = 5.0  # beyond which a server that should have given up itself is not waited for
MOST_LABELS = 100_000  # kept by one connection
ROWS_PER_FETCH = 10_000

_MIGRATING, _CHANGING = 0x746F6C6C, 0x67617465  # advisory locks, of this program by their unlikely numbers

# What the URL does not say otherwise: a peer that is gone without a word is noticed within 20 seconds.
_USUAL: Mapping[str, str | int] = {
    "application_name": "tollgate",
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_FOR_WRITING: Mapping[str, str | int] = {"target_session_attrs": "read-write"}  # of several hosts, the primary

_WHOLE_NUMBERS = (
    "connect_timeout",
    *(name for name in _USUAL if name.startswith(("keepalives", "tcp_"))),
    "keepalives",
)
_NOWHERE = "/nonexistent/tollgate"  # for a connection that is to fail; what libpq refuses before is told first

# Rows at fault, not the database.
_BAD_VALUE = (psycopg.DataError, psycopg.IntegrityError, ValueError, TypeError, OverflowError)
# Nobody's fault: another try on a new connection may do.
_PASSING = (errors.ReadOnlySqlTransaction, errors.DeadlockDetected, errors.SerializationFailure)

_ENTRIES = b"""
    WITH new AS (
        INSERT INTO entries
        SELECT * FROM unnest(
            %s::text[], %s::integer[], %s::integer[], %s::bigint[], %s::bigint[], %s::double precision[],
            %s::double precision[], %s::double precision[], %s::double precision[], %s::text[], %s::integer[],
            %s::smallint[], %s::smallint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
            %s::integer[]
        )
        ORDER BY 1, 2, 3
        ON CONFLICT DO NOTHING
        RETURNING CAST(FLOOR(started_at / 3600) AS BIGINT) * 3600 AS hour, line, outcome, correction, final,
            prompt_tokens, cached_tokens, output_tokens, gpu_ns, cost_nanousd
    ), sums AS (
        INSERT INTO rollups AS kept
        SELECT hour, line, outcome, COALESCE(SUM(final) FILTER (WHERE correction = 0), 0),
            COUNT(*) FILTER (WHERE correction = 0), SUM(prompt_tokens), SUM(cached_tokens), SUM(output_tokens),
            SUM(gpu_ns), SUM(cost_nanousd)
        FROM new GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (hour, line, outcome) DO UPDATE SET
            requests = kept.requests + excluded.requests, attempts = kept.attempts + excluded.attempts,
            prompt_tokens = kept.prompt_tokens + excluded.prompt_tokens,
            cached_tokens = kept.cached_tokens + excluded.cached_tokens,
            output_tokens = kept.output_tokens + excluded.output_tokens,
            gpu_ns = kept.gpu_ns + excluded.gpu_ns, cost_nanousd = kept.cost_nanousd + excluded.cost_nanousd
    )
    SELECT COUNT(*) FROM new
"""
_READINGS = b"""
    INSERT INTO readings (at, source, worker, model, version, hourly, up, busy_ns, in_flight, running, waiting,
        kv_usage, prompt_tokens, output_tokens, engine_started)
    SELECT * FROM unnest(
        %s::double precision[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::smallint[],
        %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::double precision[], %s::bigint[], %s::bigint[],
        %s::double precision[]
    )
    ORDER BY 3, 1, 2
    ON CONFLICT DO NOTHING
"""
_LINE = ", ".join(Line._fields)
_GIVEN_LINES = f"unnest({', '.join(['%s::text[]'] * len(Line._fields))}) WITH ORDINALITY AS given ({_LINE}, place)"
_ADD_LINES = f"""
    INSERT INTO lines ({_LINE}) SELECT {_LINE} FROM {_GIVEN_LINES} ORDER BY {_LINE} ON CONFLICT DO NOTHING
""".encode()
_FIND_LINES = f"SELECT id FROM {_GIVEN_LINES} JOIN lines USING ({_LINE}) ORDER BY place".encode()
_ADD_LABELS = b"""
    INSERT INTO labels (digest, model_asked, "user", tags)
    SELECT * FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::text[]) ORDER BY 1 ON CONFLICT DO NOTHING
"""
_FIND_LABELS = b"""
    SELECT id FROM unnest(%s::bytea[]) WITH ORDINALITY AS given (digest, place) JOIN labels USING (digest)
    ORDER BY place
"""

Done = TypeVar("Done")
_Row = tuple[Attempt, int, int]


def check_parameters(url: str) -> None:
    """Raises LedgerError for a URL with parameters, or values of them, that libpq does not know. Asks no server."""
    _Target(url).check()


class PostgresBooks:
    """The database of a URL, for reading: a connection for each snapshot."""

    def __init__(self, url: str) -> None:
        self._target = _Target(url)

    @contextmanager
    def snapshot(self) -> Generator[Snapshot]:
        target = self._target
        with target.explained(), closing(target.connect({}, READ_SECONDS, READ_IDLE_SECONDS)) as connection:
            version = _version(connection)
            if version != latest("postgresql"):
                target.refuse(version)
                raise LedgerError(
                    f"the ledger {target.place} has an older schema: start the gateway once to bring it up to date"
                    if version
                    else f"there is no ledger at {target.place}: a gateway or settler that starts makes it"
                )
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield _Statements(connection)

    def spent(self, tenant: str, since: float) -> int:
        with self.snapshot() as ledger:
            return spent(ledger, tenant, since)


class PostgresStore(PostgresBooks):
    """Connects at once, and brings the schema up to date."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._connection: _Connection | None = None
        self._names = _Names()
        with self._target.explained():
            self._current()

    def write(self, batch: Batch) -> Written:
        with self._target.explained():
            return self._on_a_connection(partial(self._write, batch))

    @contextmanager
    def change(self) -> Generator[Change]:
        with self._target.explained():
            self._on_a_connection(_begin_change)
            connection = self._current()
            try:
                yield _Statements(connection)
                connection.execute("COMMIT")
            except BaseException:
                self.close()  # which rolls back
                raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._names = _Names()  # another connection may be to another state of the database
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _write(self, batch: Batch, connection: _Connection) -> Written:
        rows, nameless = self._names.resolve(connection, batch.attempts)
        with connection.transaction():
            added, refused = sift(rows, partial(_add_entries, connection), _BAD_VALUE)
            _, unread = sift(batch.readings, partial(_add_readings, connection), _BAD_VALUE)
        for reading, why in unread:
            logger.warning("a reading of worker %s is not kept (%s)", reading.worker, why)
        return Written(added, [*nameless, *((attempt, why) for (attempt, _, _), why in refused)])

    def _on_a_connection(self, do: Callable[[_Connection], Done]) -> Done:
        is_new = self._connection is None
        connection = self._current()
        try:
            return do(connection)
        except BaseException as error:
            # A connection that was idle may have ended long ago, or lead to a server that is no longer the primary.
            passing = isinstance(error, _PASSING) or (isinstance(error, psycopg.OperationalError) and connection.broken)
            self.close()
            if is_new or not passing or connection.ran_out_of_time:
                raise
        try:
            return do(self._current())
        except BaseException:
            self.close()
            raise

    def _current(self) -> _Connection:
        if self._connection is None:
            connection = self._target.connect(_FOR_WRITING, STATEMENT_SECONDS, IDLE_SECONDS)
            try:
                self._migrate(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _migrate(self, connection: _Connection) -> None:
        if _version(connection) == latest("postgresql"):
            return
        with connection.transaction():
            # Of several that start together, one migrates.
            connection.execute(b"SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,))
            version = _version(connection)
            self._target.refuse(version)
            connection.execute(b"SET LOCAL statement_timeout = 0")
            connection.patience = MIGRATION_SECONDS
            if not version:
                connection.execute(VERSION_TABLE.replace("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP::text").encode())
            for number, script in pending("postgresql", version):
                for statement in script:
                    connection.execute(statement.encode())
                connection.execute(b"INSERT INTO ledger_schema (version) VALUES (%s)", (number,))
            connection.patience = STATEMENT_SECONDS + MERCY_SECONDS


class _Target:
    """Where a URL leads, in words without its password."""

    def __init__(self, url: str) -> None:
        try:
            self._parameters = conninfo.conninfo_to_dict(url)
            is_clear = not any("@" in str(self._parameters.get(name, "")) for name in ("host", "port"))
        except psycopg.Error:  # what libpq says quotes the URL
            _refuse_unknown(url)
            is_clear = False
        if not is_clear:
            raise LedgerError(
                "the ledger URL is not one of PostgreSQL: write `ledger: postgresql://USER:PASSWORD@HOST:5432/DATABASE`"
                ", with %XX for what is not a letter or digit in user and password"
            )
        given = {name: str(value) for name, value in self._parameters.items() if value is not None}
        user = f"{given['user']}@" if "user" in given else ""
        port = f":{given['port']}" if "port" in given else ""
        self.place = f"postgresql://{user}{given.get('host', 'localhost')}{port}/{given.get('dbname', '')}"
        self._password = given.get("password", "")

    def connect(self, extra: Mapping[str, str | int], statement_seconds: float, idle_seconds: float) -> _Connection:
        parameters: dict[str, Any] = {**_USUAL, **extra, **self._parameters}
        connection = _Connection.connect(autocommit=True, prepare_threshold=None, **parameters)
        try:
            connection.patience = statement_seconds + MERCY_SECONDS
            connection.adapters.register_loader("numeric", _WholeLoader)
            connection.execute(
                b"SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false), "
                b"set_config('idle_in_transaction_session_timeout', %s, false), "
                b"set_config('client_encoding', 'UTF8', false)",
                [f"{round(seconds * 1000)}ms" for seconds in (statement_seconds, LOCK_SECONDS, idle_seconds)],
            )
        except BaseException:
            connection.close()
            raise
        return connection

    def check(self) -> None:
        """Raises LedgerError for values that libpq refuses before it connects."""
        told = {name: str(value) for name, value in self._parameters.items() if value is not None}
        wrong = next((name for name in _WHOLE_NUMBERS if not re.fullmatch(r"-?\d+", told.get(name, "0"))), None)
        said = "" if wrong is None else f'invalid {wrong} value: "{told[wrong]}"'
        if not said:
            elsewhere = {**{name: told[name] for name in told.keys() - {"host", "hostaddr", "port"}}, "host": _NOWHERE}
            attempt = pq.PGconn.connect_start(conninfo.make_conninfo("", **elsewhere).encode())
            said = " ".join(attempt.get_error_message().split())
            attempt.finish()
        if _NOWHERE not in said:
            if self._password:
                said = said.replace(self._password, "***")
            raise LedgerError(
                f"the ledger URL is not one that PostgreSQL takes ({said}): correct the part after its `?`"
            )

    def refuse(self, version: int) -> None:
        """Raises LedgerError for a schema of the future."""
        if version > latest("postgresql"):
            raise LedgerError(
                f"the ledger {self.place} was written by a newer Tollgate (its schema is {version}, this one knows "
                f"{latest('postgresql')}): upgrade Tollgate, or name another database under `ledger:`"
            )

    @contextmanager
    def explained(self) -> Generator[None]:
        """Translates what PostgreSQL and its library raise into a LedgerError that says what to do."""
        try:
            yield
        except psycopg.Error as error:
            said = " ".join(str(error).split()) or type(error).__name__
            if self._password:
                said = said.replace(self._password, "***")
            kind = LedgerAway if isinstance(error, (psycopg.OperationalError, *_PASSING)) else LedgerError
            raise kind(f"the ledger {self.place} cannot be used ({said}): {_remedy(error)}") from error


def _refuse_unknown(url: str) -> None:
    """Raises LedgerError for a parameter that libpq does not know. What follows a password may be a part of it."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"ssl"}
    query = re.sub(r"^[^/]*//[^@/]*@", "", url).partition("?")[2]
    given = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    unknown = [name for name in given if name not in known]
    if unknown:
        name = "a parameter" if "password" in given else f"the parameter `{unknown[0][:40]}`"
        near = get_close_matches(unknown[0], known, n=1)
        remedy = f"did you mean `{near[0]}`?" if near and "password" not in given else "take it out of the URL"
        raise LedgerError(f"the ledger URL has {name}, which PostgreSQL does not know: {remedy}")


_REMEDIES: Mapping[str, str] = {
    "23": "see the PostgreSQL message",
    "25006": "it is a standby or set to be read-only: name the primary, or all hosts, under `ledger:`",
    "28": "check the user and the password under `ledger:`",
    "3D": "make the database (`createdb`), or name another under `ledger:`",
    "3F": "make the schema that its search_path names, or change it",
    "40": "it is tried again",
    "42501": "grant this user all rights on the database's tables, and CREATE on its schema",
    "42P07": "the schema has tables of another program: give the ledger a database of its own",
    "42": "its tables are not those of this version: restore them, or give the ledger a database of its own",
    "53100": "make room on its disk",
    "53300": "raise its max_connections, or end other clients",
    "53": "give its server more memory or disk",
    "55P03": "another transaction holds a lock: end it",
    "57014": "it took too long: see what else it does, and whether its disk keeps up",
    "57P": "it is starting or stopping: wait for it",
    "58": "look after its disk",
    "XX": "look after its disk, and restore it from a backup if need be",
}
_AWAY = "see that PostgreSQL runs and can be reached from here, and that user, password and database are right"


def _remedy(error: psycopg.Error) -> str:
    state = error.sqlstate
    if state is None:
        return _AWAY
    known = [prefix for prefix in _REMEDIES if state.startswith(prefix)]
    return _REMEDIES[max(known, key=len)] if known else "see the PostgreSQL message"


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """Ends when its server says nothing for so long that it must hang, as a stopped process or a stuck disk does."""

    patience = CONNECT_SECONDS + MERCY_SECONDS  # seconds, for one exchange with the server
    ran_out_of_time = False

    def wait(self, gen: PQGen[Done], interval: float = 0.1, timeout: float | None = None) -> Done:
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except errors._WaitTimeout as error:  # pyright: ignore[reportPrivateUsage]
            if timeout is not None:
                raise
            self.ran_out_of_time = True
            self.close()
            raise psycopg.OperationalError(f"the server said nothing for {self.patience:g} s") from error


class _WholeLoader(NumericLoader):
    """Sums of whole numbers are whole numbers."""

    def load(self, data: Buffer) -> Any:
        try:
            return int(bytes(data))
        except ValueError:
            return super().load(data)


class _Statements:
    """A Snapshot, and a Change, of the transaction that a connection is in."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._streams = count(1)

    def rows(self, query: str, values: Mapping[str, Value] = NO_VALUES) -> list[tuple[Any, ...]]:
        return self._connection.execute(translated(query), values).fetchall()

    def stream(self, query: str, values: Mapping[str, Value] = NO_VALUES) -> Iterator[tuple[Any, ...]]:
        with self._connection.cursor(f"stream_{next(self._streams)}") as cursor:
            cursor.itersize = ROWS_PER_FETCH
            yield from cursor.execute(translated(query), values)

    def add(self, statement: str, rows: Sequence[Mapping[str, Value]]) -> int:
        with self._connection.cursor() as cursor:
            cursor.executemany(translated(statement), rows)
            return max(0, cursor.rowcount)


@lru_cache(256)
def translated(query: str) -> bytes:
    """From the SQL that all databases share to psycopg's: `:name` is `%(name)s` there."""
    return re.sub(r"(?<![:\w]):([A-Za-z_]\w*)", r"%(\1)s", query.replace("%", "%%")).encode()


class _Names:
    """The numbers of lines and labels, as far as one connection has met them.

    Names are added in transactions of their own: they stand when the batch that brought them does not, which harms
    nobody, and are locked for moments only.
    """

    def __init__(self) -> None:
        self._lines: dict[Line, int] = {}
        self._labels: dict[Label, int] = {}

    def resolve(
        self, connection: _Connection, attempts: Sequence[Attempt]
    ) -> tuple[list[_Row], list[tuple[Attempt, str]]]:
        """Attempts with their numbers, and those whose names can not be kept."""
        lines, labels = self._lines, self._labels
        if len(labels) > MOST_LABELS:
            labels.clear()
        new_lines = list(dict.fromkeys(attempt.line for attempt in attempts if attempt.line not in lines))
        new_labels = list(dict.fromkeys(attempt.label for attempt in attempts if attempt.label not in labels))
        whys = dict[object, str]()
        for line, why in sift(new_lines, partial(self._add_lines, connection), _BAD_VALUE)[1]:
            whys[line] = why
        for label, why in sift(new_labels, partial(self._add_labels, connection), _BAD_VALUE)[1]:
            whys[label] = why
        if not whys:
            return [(attempt, lines[attempt.line], labels[attempt.label]) for attempt in attempts], []
        rows: list[_Row] = []
        nameless: list[tuple[Attempt, str]] = []
        for attempt in attempts:
            line, label = lines.get(attempt.line), labels.get(attempt.label)
            if line is None or label is None:
                nameless.append((attempt, whys[attempt.line if line is None else attempt.label]))
            else:
                rows.append((attempt, line, label))
        return rows, nameless

    def _add_lines(self, connection: _Connection, some: Sequence[Line]) -> int:
        columns = [texts(column) for column in zip(*some, strict=True)]
        connection.execute(_ADD_LINES, columns)
        found = connection.execute(_FIND_LINES, columns).fetchall()
        self._lines.update({line: number for line, (number,) in zip(some, found, strict=True)})
        return len(found)

    def _add_labels(self, connection: _Connection, some: Sequence[Label]) -> int:
        kept = [Label(*map(keepable, label)) for label in some]
        digests = [hashlib.sha256("\0".join(label).encode()).digest() for label in kept]
        connection.execute(_ADD_LABELS, [digests, *(texts(column) for column in zip(*kept, strict=True))])
        found = connection.execute(_FIND_LABELS, [digests]).fetchall()
        self._labels.update({label: number for label, (number,) in zip(some, found, strict=True)})
        return len(found)


def _add_entries(connection: _Connection, rows: Sequence[_Row]) -> int:
    """With their sums; all or none, and in between others' never."""
    columns = columns_of_attempts(rows)
    with connection.transaction():
        found = connection.execute(_ENTRIES, columns).fetchone()
    return int(found[0]) if found else 0


def _add_readings(connection: _Connection, readings: Sequence[Reading]) -> int:
    columns = columns_of_readings(readings)
    with connection.transaction():
        return connection.execute(_READINGS, columns).rowcount


def _begin_change(connection: _Connection) -> None:
    connection.execute(b"BEGIN")
    connection.execute(b"SELECT pg_advisory_xact_lock(%s)", (_CHANGING,))


def _version(connection: _Connection) -> int:
    """The schema version of the database, 0 where there is no ledger."""
    # A query sees what another has just committed; to_regclass() may still see what it has seen before.
    found = connection.execute(
        b"SELECT 1 FROM pg_catalog.pg_tables "
        b"WHERE tablename = 'ledger_schema' AND schemaname = ANY(current_schemas(false))"
    ).fetchone()
    if found is None:
        return 0
    row = connection.execute(b"SELECT MAX(version) FROM ledger_schema").fetchone()
    return int(row[0] or 0) if row else 0
