"""What PostgreSQL may do to its clients, and what they make of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from gateway.ledger.opening import open_books, open_store
from gateway.ledger.postgres import PostgresStore, translated
from gateway.ledger.schema import pending
from gateway.ledger.store import Batch, LedgerError, Written
from tests.attempts import attempt
from tests.eventually import eventually
from tests.postgres.server import PASSWORD, PostgresServer


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(url)) as store:
        yield store


def test_a_connection_that_ended_meanwhile_is_nobodys_trouble(
    store: PostgresStore, postgres: PostgresServer, database: str
) -> None:
    store.write(Batch([attempt("r1")]))
    with postgres.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
    assert store.write(Batch([attempt("r1"), attempt("r2")])) == Written(1, [])


def test_what_was_committed_is_there_after_the_server_was_killed(
    store: PostgresStore, postgres: PostgresServer
) -> None:
    store.write(Batch([attempt("r1", user="u")]))
    postgres.kill()
    try:
        with pytest.raises(LedgerError, match="see that PostgreSQL runs") as caught:
            store.write(Batch([attempt("r2")]))
        assert PASSWORD not in str(caught.value)
    finally:
        postgres.start()
    assert store.write(Batch([attempt("r1", user="u"), attempt("r2", user="u")])) == Written(1, [])
    assert store.spent("support", 0) == 2 * attempt().cost_nanousd


def test_a_server_that_says_nothing_is_not_waited_for(store: PostgresStore, postgres: PostgresServer, url: str) -> None:
    with postgres.paused():
        store._connection.patience = 0.3  # type: ignore[union-attr]
        with pytest.raises(LedgerError, match=r"the server said nothing for 0\.3 s"):
            store.write(Batch([attempt("r1")]))
        with pytest.raises(LedgerError, match="timeout expired"):
            open_store(f"{url}?connect_timeout=2")
    assert store.write(Batch([attempt("r1"), attempt("r2")])).refused == []
    assert store.spent("support", 0) == 2 * attempt().cost_nanousd


def test_a_database_that_is_read_only_is_named_and_written_to_when_it_is_not(
    store: PostgresStore, postgres: PostgresServer, database: str, url: str
) -> None:
    with postgres.connect() as connection:
        connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
        with pytest.raises(LedgerError, match="session is read-only"):
            store.write(Batch([attempt()]))
        assert open_books(url).spent("support", 0) == 0
        connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    assert store.write(Batch([attempt()])) == Written(1, [])


def test_a_primary_that_became_read_only_is_left_for_the_new_one(store: PostgresStore) -> None:
    """As it does for the session when a standby takes over under the same address."""
    store._connection.execute("SET default_transaction_read_only = on")  # type: ignore[union-attr]
    assert store.write(Batch([attempt()])) == Written(1, [])


def test_of_several_hosts_the_one_that_answers_is_taken(url: str) -> None:
    both = url.replace("@127.0.0.1:", "@127.0.0.1:1,127.0.0.1:")
    with closing(open_store(both)) as store:
        assert store.write(Batch([attempt()])) == Written(1, [])


def test_a_lock_that_another_holds_is_named(store: PostgresStore, postgres: PostgresServer, database: str) -> None:
    store._connection.execute("SET lock_timeout = '200ms'")  # type: ignore[union-attr]
    with postgres.connect(database) as connection, connection.transaction():
        connection.execute("LOCK TABLE entries")
        with pytest.raises(LedgerError, match="another transaction holds a lock: end it"):
            store.write(Batch([attempt()]))
    assert store.write(Batch([attempt()])) == Written(1, [])


def test_writers_of_the_same_rows_do_not_wait_in_a_circle(postgres: PostgresServer, database: str, url: str) -> None:
    rows = [attempt(f"r{number}", tenant=f"t{number % 9}", user=f"u{number}") for number in range(400)]
    together = threading.Barrier(2)

    def write(step: int) -> int:
        with closing(open_store(url)) as store:
            added = 0
            for number in range(10):
                together.wait(20)
                batch = [
                    one._replace(number=number, label=one.label._replace(tags=str(number))) for one in rows[::step]
                ]
                added += store.write(Batch(batch)).added
            return added

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(write, (1, -1))) == 10 * len(rows)
    with postgres.connect() as connection:
        of_this = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = %s"
        eventually(lambda: connection.execute(of_this, (database,)).fetchone() == (0,), "both have told their figures")
        found = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = %s", (database,)).fetchone()
    assert found == (0,)


def test_a_reader_is_not_kept_waiting_by_a_writer(
    store: PostgresStore, postgres: PostgresServer, database: str
) -> None:
    store.write(Batch([attempt()]))
    with postgres.connect(database) as connection, connection.transaction():
        connection.execute("UPDATE rollups SET requests = requests + 1")
        assert store.spent("support", 0) == attempt().cost_nanousd


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda url: url.replace(PASSWORD, "wr0ng-secret"), "password authentication failed"),
        (lambda url: url.replace("/ledger", "/absent"), "does not exist"),
        (lambda url: url.replace("127.0.0.1:", "127.0.0.1:1,127.0.0.1:1?x=").partition("?")[0], "see that PostgreSQL"),
        (lambda url: url.replace("@", "@half@"), "%XX for what is not a letter"),
        (lambda url: url.replace("@", "@:@"), "not one of PostgreSQL: write `ledger: postgresql://USER"),
        (lambda url: url.replace("@127.0.0.1", "%zz@127.0.0.1"), "not one of PostgreSQL"),
    ],
)
def test_what_cannot_be_opened_is_named_without_its_password(url: str, change: object, message: str) -> None:
    with pytest.raises(LedgerError, match=message) as caught:
        open_store(change(url))  # type: ignore[operator]
    assert PASSWORD not in str(caught.value)
    assert "wr0ng" not in str(caught.value)


def test_a_user_without_rights_is_told_which(store: PostgresStore, postgres: PostgresServer, database: str) -> None:
    guest = postgres.url(database).replace(f"owner:{PASSWORD}", "guest:guest-secret")
    with postgres.connect(database) as connection:
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest-secret'")
        try:
            with pytest.raises(LedgerError, match="grant this user all rights") as caught:
                open_store(guest)
        finally:
            connection.execute("DROP ROLE guest")
    assert "guest-secret" not in str(caught.value)


def test_tables_of_another_program_are_left_alone(postgres: PostgresServer, database: str, url: str) -> None:
    with postgres.connect(database) as connection:
        connection.execute("CREATE TABLE labels (word TEXT)")
        with pytest.raises(LedgerError, match="give the ledger a database of its own"):
            open_store(url)
        assert connection.execute("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)


def test_rows_from_before_choices_were_counted_had_one_and_are_not_rewritten(
    postgres: PostgresServer, database: str, url: str
) -> None:
    """However many they are; who may read the view still may."""
    view = 'SELECT attempt_id, prompt_tokens, "user", choices FROM attempts ORDER BY started_at'
    state = "SELECT pg_relation_filenode('entries'), has_table_privilege('public', 'attempts', 'SELECT')"
    with postgres.connect(database) as connection:
        connection.execute("CREATE TABLE ledger_schema (version INTEGER NOT NULL PRIMARY KEY)")
        for number, script in pending("postgresql", 0):
            if number < 6:
                for statement in script:
                    connection.execute(statement)  # type: ignore[arg-type]
                connection.execute("INSERT INTO ledger_schema VALUES (%s)", (number,))
        connection.execute("INSERT INTO lines VALUES (DEFAULT, 't', '', '', '', '', '', '', 'w', '')")
        connection.execute("INSERT INTO labels VALUES (DEFAULT, 'd', 'm', 'u', '')")
        connection.execute(
            "INSERT INTO entries VALUES ('old', 1, 0, 1, 2, 10, 10, NULL, 1, 'ok', 200, 0, 1, 7, 0, 5, 9, 3)"
        )
        connection.execute("GRANT SELECT ON attempts TO PUBLIC")
        before = connection.execute(state).fetchone()
        with closing(PostgresStore(url)) as store:
            assert store.write(Batch([attempt("new", choices=3)])) == Written(1, [])
        assert connection.execute(view).fetchall() == [("old.1", 7, "u", 1), ("new.1", 100, "", 3)]
        assert connection.execute(state).fetchone() == before


def test_a_ledger_that_is_not_there_is_named_and_not_made(postgres: PostgresServer, database: str, url: str) -> None:
    with (
        pytest.raises(LedgerError, match=r"there is no ledger at postgresql://owner@127\.0\.0\.1"),
        open_books(url).snapshot(),
    ):
        pass
    with postgres.connect(database) as connection:
        assert connection.execute("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_a_writer_that_stopped_in_its_transaction_is_ended_by_the_server(store: PostgresStore, url: str) -> None:
    """Or it would keep the others waiting for its locks."""
    with closing(open_store(url)) as other, ExitStack() as stack:
        other._connection.execute("SET idle_in_transaction_session_timeout = '100ms'")  # type: ignore[attr-defined]
        stack.enter_context(other.change())
        with store.change() as change:  # waits until the server has ended the other
            assert change.rows("SELECT 1") == [(1,)]
        with pytest.raises(LedgerError, match="idle"):
            stack.close()


@pytest.mark.parametrize(
    ("shared", "psycopgs"),
    [
        ("SELECT :a, :b_2", b"SELECT %(a)s, %(b_2)s"),
        ("SELECT x::text LIKE 'a%' AND y < :y", b"SELECT x::text LIKE 'a%%' AND y < %(y)s"),
        ("SELECT '12:00'", b"SELECT '12:00'"),
    ],
)
def test_values_are_named_as_in_sqlite(shared: str, psycopgs: bytes) -> None:
    assert translated(shared) == psycopgs
