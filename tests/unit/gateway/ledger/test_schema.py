"""Migrations: of one number in all databases, applied once, forward only."""

import sqlite3
from contextlib import closing
from importlib import resources
from typing import get_args

import pytest

from gateway.ledger.schema import Database, latest, migrations, pending
from gateway.ledger.sqlite import SqliteBooks, SqliteStore
from gateway.ledger.store import Batch, LedgerError
from tests.attempts import attempt


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


def execute(path, *script):
    with closing(sqlite3.connect(path)) as connection:
        for statement in script:
            connection.execute(statement)
        connection.commit()


def test_every_database_has_the_same_migrations_since_it_is_one_of_them():
    files = resources.files("gateway.ledger").joinpath("migrations")
    names = {
        database: sorted(file.name for file in files.joinpath(database).iterdir() if file.name.endswith(".sql"))
        for database in get_args(Database)
    }
    assert names["sqlite"][1:] == names["postgresql"]
    for database, found in names.items():
        assert list(migrations(database)) == [int(name[:4]) for name in found]
        assert latest(database) == latest("sqlite")


def test_every_statement_of_a_migration_is_whole():
    scripts = [script for _, script in pending("sqlite", 0)]
    assert all(sqlite3.complete_statement(f"{sql};") for script in scripts for sql in script)


def test_a_new_file_has_every_migration(path):
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        applied = connection.execute("SELECT version FROM ledger_schema ORDER BY version").fetchall()
    assert applied == [(number,) for number in migrations("sqlite")]


def test_opening_again_changes_nothing(path):
    store = SqliteStore(path)
    store.write(Batch([attempt()]))
    store.close()
    again = SqliteStore(path)
    assert again.spent("support", 0) == attempt().cost_nanousd
    again.close()


def test_what_was_written_under_the_first_schema_is_kept_and_summed(path):
    """As version 0.1 did: names in every row, and no sums."""
    first = migrations("sqlite")[1]
    row = "('{0}.{1}', '{0}', 1790000000.5, 'support', 'prod', 'chat.completions', 'auto', 'chat-8b', 'int4', '', " + (
        "'cheap', 'w{1}', 'ok', 200, 100, 40, 25, 0, NULL, 1.5, 0.5, {2}, 'gpu_time', 'u')"
    )
    rows = ", ".join(row.format(*one) for one in [("r1", 9, 5), ("r1", 10, 70), ("r2", 1, 600)])
    execute(
        path,
        *filter(None, map(str.strip, first.split(";\n"))),
        "CREATE TABLE ledger_schema (version INTEGER NOT NULL PRIMARY KEY, applied_at TEXT)",
        "INSERT INTO ledger_schema (version) VALUES (1)",
        f"INSERT INTO attempts VALUES {rows}",
    )
    with closing(SqliteStore(path)) as store, store.snapshot() as ledger:
        assert store.spent("support", 0) == 675
        kept = "SELECT request_id, number, final, gpu_ns, cost_nanousd, labels.user, worker FROM entries "
        kept += "JOIN lines ON lines.id = line JOIN labels ON labels.id = label ORDER BY 1, 2"
        assert ledger.rows(kept) == [
            ("r1", 9, 0, 500_000_000, 5, "u", "w9"),
            ("r1", 10, 1, 500_000_000, 70, "u", "w10"),
            ("r2", 1, 1, 500_000_000, 600, "u", "w1"),
        ]
        sums = ledger.rows("SELECT SUM(requests), SUM(attempts), SUM(prompt_tokens), SUM(cost_nanousd) FROM rollups")
        assert sums == [(2, 3, 300, 675)]


def test_rows_from_before_choices_were_counted_had_one(path):
    script = [sql for number, statements in pending("sqlite", 0) if number < 6 for sql in statements]
    execute(
        path,
        *script,
        "CREATE TABLE ledger_schema (version INTEGER NOT NULL PRIMARY KEY, applied_at TEXT)",
        "INSERT INTO ledger_schema (version) VALUES (5)",
        "INSERT INTO lines VALUES (1, 't', 'k', 'chat.completions', 'm', 'v', '', 'r', 'w', 'gpu_time')",
        "INSERT INTO labels VALUES (2, 'm', 'u', '')",
        "INSERT INTO entries VALUES ('old', 1, 0, 1, 2, 10, 10, NULL, 1, 'ok', 200, 0, 1, 7, 0, 5, 9, 3)",
    )
    with closing(SqliteStore(path)) as store:
        assert store.write(Batch([attempt("new", choices=3)])).added == 1
        with store.snapshot() as ledger:
            rows = ledger.rows("SELECT attempt_id, prompt_tokens, user, choices FROM attempts ORDER BY started_at")
    assert rows == [("old.1", 7, "u", 1), ("new.1", 100, "", 3)]


def test_a_newer_schema_is_refused(path):
    SqliteStore(path).close()
    execute(path, "INSERT INTO ledger_schema (version) VALUES (99)")
    with pytest.raises(LedgerError, match=r"newer Tollgate \(its schema is 99.*upgrade Tollgate"):
        SqliteStore(path)
    with pytest.raises(LedgerError, match="newer Tollgate"), SqliteBooks(path).snapshot():
        pass


def test_another_programs_database_is_refused(path):
    execute(path, "CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(LedgerError, match="another program: name a file of its own"):
        SqliteStore(path)


def test_a_file_that_was_never_migrated_cannot_be_read(path):
    execute(path, "PRAGMA journal_mode = WAL")
    with pytest.raises(LedgerError, match="start the gateway once"), SqliteBooks(path).snapshot():
        pass
