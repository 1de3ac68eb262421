"""Migrations: numbered without gaps, applied once, forward only."""

import sqlite3
from contextlib import closing
from importlib import resources

import pytest

from gateway.ledger.schema import migrations, statements
from gateway.ledger.sqlite import SqliteStore, reading
from gateway.ledger.store import LedgerError
from tests.attempts import attempt


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


def execute(path, *script):
    with closing(sqlite3.connect(path)) as connection:
        for statement in script:
            connection.execute(statement)
        connection.commit()


def test_migrations_are_numbered_without_gaps():
    names = sorted(file.name for file in resources.files("gateway.ledger").joinpath("migrations").iterdir())
    assert [name.partition("_")[0] for name in names] == [f"{number:04d}" for number in range(1, len(names) + 1)]
    assert len(migrations()) == len(names)


def test_every_statement_of_a_migration_is_whole():
    assert all(sqlite3.complete_statement(f"{sql};") for script in migrations() for sql in statements(script))


def test_a_new_file_has_every_migration(path):
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        applied = connection.execute("SELECT version FROM ledger_schema ORDER BY version").fetchall()
    assert applied == [(number,) for number in range(1, len(migrations()) + 1)]


def test_opening_again_changes_nothing(path):
    store = SqliteStore(path)
    store.write([attempt()])
    store.close()
    again = SqliteStore(path)
    assert again.spent("support", 0) == attempt().cost_nanousd
    again.close()


def test_an_older_file_is_brought_up_to_date(path):
    """Version 0 is what an empty file has: every migration is still to come."""
    execute(path, "PRAGMA user_version = 0")
    SqliteStore(path).close()
    with reading(path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM attempts").fetchone() == (0,)


def test_a_newer_schema_is_refused(path):
    SqliteStore(path).close()
    execute(path, "INSERT INTO ledger_schema (version) VALUES (99)")
    with pytest.raises(LedgerError, match=r"newer Tollgate \(its schema is 99.*upgrade Tollgate"):
        SqliteStore(path)
    with pytest.raises(LedgerError, match="newer Tollgate"), reading(path):
        pass


def test_another_programs_database_is_refused(path):
    execute(path, "CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(LedgerError, match="another program: name a file of its own"):
        SqliteStore(path)


def test_a_file_that_was_never_migrated_cannot_be_read(path):
    execute(path, "PRAGMA journal_mode = WAL")
    with pytest.raises(LedgerError, match="start the gateway once"), reading(path):
        pass
