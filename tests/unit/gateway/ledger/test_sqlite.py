"""What the file of an SQLite ledger may suffer. What every store promises: tests/postgres/test_store.py."""

import sqlite3
import stat
from contextlib import closing

import pytest

from gateway.ledger.sqlite import SqliteBooks, SqliteStore
from gateway.ledger.store import Batch, LedgerError, Written
from tests.attempts import attempt


@pytest.fixture
def path(tmp_path):
    return tmp_path / "var" / "ledger.db"


@pytest.fixture
def store(path):
    store = SqliteStore(path)
    yield store
    store.close()


def requests(path):
    with SqliteBooks(path).snapshot() as ledger:
        return [name for (name,) in ledger.rows("SELECT request_id FROM entries ORDER BY request_id")]


def test_the_ledger_is_private(store, path):
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_locked_file_is_named_and_nothing_is_half_written(store, path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="another program holds it locked"):
            store.write(Batch([attempt()]))
    assert store.write(Batch([attempt()])) == Written(1, [])


def test_a_full_disk_is_named_and_the_batch_goes_in_when_there_is_room(path):
    pages = [10_000]
    store = SqliteStore(path, prepare=lambda connection: connection.execute(f"PRAGMA max_page_count = {pages[0]}"))
    batch = [attempt(f"r{number}", user="x" * 500) for number in range(200)]
    store.close()
    pages[0] = 1  # which SQLite takes for as many as there are
    with pytest.raises(LedgerError, match=r"full\): make room on its disk"):
        store.write(Batch(batch))
    assert requests(path) == []
    pages[0] = 10_000
    assert store.write(Batch(batch)).added == 200
    store.close()


def test_a_file_that_is_no_database_is_refused(path):
    path.parent.mkdir()
    path.write_text("tenants:\n  support: {}\n" * 100)
    with pytest.raises(LedgerError, match="not an SQLite database: move it away"):
        SqliteStore(path)
    assert path.read_text().startswith("tenants:")


def test_a_damaged_file_is_named(store, path):
    store.write(Batch([attempt(f"r{number}") for number in range(500)]))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:-4096] = b"\xa5" * (len(content) - 2 * 4096)
    path.write_bytes(content)
    batch = [attempt(f"s{number}") for number in range(500)]
    with pytest.raises(LedgerError, match="it is damaged: move it away"):
        store.write(Batch(batch))


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "var").write_text("in the way")
    with pytest.raises(LedgerError, match="make the file and its directory writable"):
        SqliteStore(tmp_path / "var" / "ledger.db")


def test_a_directory_in_its_place_is_named(tmp_path):
    with pytest.raises(LedgerError, match="make the file and its directory writable"):
        SqliteStore(tmp_path)


def test_a_file_that_disappears_is_missed_and_not_replaced(store, path):
    store.write(Batch([attempt("r1")]))
    away = path.with_suffix(".away")
    path.rename(away)
    with pytest.raises(LedgerError, match="there is no ledger at"):
        store.write(Batch([attempt("r2")]))
    assert not path.exists()
    away.rename(path)
    assert store.write(Batch([attempt("r2")])) == Written(1, [])
    assert requests(path) == ["r1", "r2"]


def test_a_file_restored_from_a_copy_is_the_one_written_to(store, path):
    store.write(Batch([attempt("r1")]))
    copy = path.with_suffix(".copy")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    store.write(Batch([attempt("r2")]))
    store.close()
    copy.replace(path)
    assert store.write(Batch([attempt("r3")])) == Written(1, [])
    assert requests(path) == ["r1", "r3"]


def test_reading_what_is_not_there_is_named(tmp_path):
    store = SqliteStore(tmp_path / "ledger.db")
    (tmp_path / "ledger.db").unlink()
    with pytest.raises(LedgerError):
        store.spent("support", 0)
    store.close()
