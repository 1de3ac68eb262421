"""The SQLite store: what goes in comes out, once; and what its file may suffer."""

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.record import Attempt
from gateway.ledger.sqlite import ROWS_PER_INSERT, SqliteStore, in_powers_of_two
from gateway.ledger.store import LedgerError, Written
from tests.attempts import attempt


@pytest.fixture
def path(tmp_path):
    return tmp_path / "var" / "ledger.db"


@pytest.fixture
def store(path):
    store = SqliteStore(path)
    yield store
    store.close()


def rows(path):
    with closing(sqlite3.connect(path)) as connection:
        return [Attempt(*row) for row in connection.execute("SELECT * FROM attempts ORDER BY attempt_id")]


def test_an_attempt_is_kept_as_it_is(store, path):
    plain = attempt(ttft_seconds=None, adapter="support", user="Zoë\n\x00", cost_nanousd=2**62)
    estimated = attempt("r2", estimated=True, gpu_seconds=1e-9, started_at=1_790_000_000.123456)
    assert store.write([plain, estimated]) == Written(2, [])
    assert rows(path) == [plain, estimated]


def test_an_attempt_is_kept_once(store, path):
    assert store.write([attempt("r1"), attempt("r2"), attempt("r1")]) == Written(2, [])
    assert store.write([attempt("r2"), attempt("r3")]) == Written(1, [])
    assert [row.request_id for row in rows(path)] == ["r1", "r2", "r3"]


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 1_000])
def test_batches_of_any_size(store, path, count):
    assert store.write([attempt(f"r{number}") for number in range(count)]) == Written(count, [])
    assert len(rows(path)) == count


@given(length=st.integers(0, 3 * ROWS_PER_INSERT + 1))
def test_a_batch_is_cut_into_few_sizes_and_keeps_its_order(length):
    cut = list(in_powers_of_two(range(length)))
    assert [row for run in cut for row in run] == list(range(length))
    assert {len(run) for run in cut} <= {2**power for power in range(ROWS_PER_INSERT.bit_length())}
    assert len(cut) <= length // ROWS_PER_INSERT + ROWS_PER_INSERT.bit_length()


def test_a_row_that_cannot_be_kept_does_not_take_the_others_with_it(store, path):
    bad = [attempt("big", cost_nanousd=2**70), attempt("half", user="\ud800"), attempt("none", tenant=None)]
    odd = attempt("odd", user=object())
    good = [attempt(f"r{number}") for number in range(5)]
    written = store.write([good[0], *bad, good[1], odd, *good[2:]])
    assert written.added == 5
    assert [row for row, _ in written.refused] == [*bad, odd]
    assert all(why for _, why in written.refused)
    assert rows(path) == good


def test_spending_is_by_tenant_and_time(store):
    store.write(
        [
            attempt("r1", started_at=100.0, cost_nanousd=1),
            attempt("r2", started_at=200.0, cost_nanousd=20),
            attempt("r3", started_at=200.5, cost_nanousd=300),
            attempt("r4", started_at=300.0, cost_nanousd=4_000, tenant="another"),
        ]
    )
    assert store.spent("support", 0) == 321
    assert store.spent("support", 200) == 320
    assert store.spent("support", 1_000) == 0
    assert store.spent("nobody", 0) == 0


def test_the_ledger_is_private(store, path):
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_several_processes_may_open_a_new_file_together(path):
    """As several connections do here; each then writes what it has, some of it twice."""

    def open_and_write(number):
        store = SqliteStore(path)
        with closing(store):
            return store.write([attempt("shared"), attempt(f"r{number}")]).added

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(open_and_write, range(24))) == 25
    assert len(rows(path)) == 25


def test_a_locked_file_is_named_and_nothing_is_half_written(store, path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="another program holds it locked"):
            store.write([attempt()])
    assert store.write([attempt()]) == Written(1, [])


def test_a_full_disk_is_named_and_the_batch_goes_in_when_there_is_room(path):
    pages = [12]
    store = SqliteStore(path, prepare=lambda connection: connection.execute(f"PRAGMA max_page_count = {pages[0]}"))
    batch = [attempt(f"r{number}", user="x" * 500) for number in range(200)]
    with pytest.raises(LedgerError, match=r"full\): make room on its disk"):
        store.write(batch)
    assert rows(path) == []
    pages[0] = 10_000
    assert store.write(batch).added == 200
    store.close()


def test_a_file_that_is_no_database_is_refused(path):
    path.parent.mkdir()
    path.write_text("tenants:\n  support: {}\n" * 100)
    with pytest.raises(LedgerError, match="not an SQLite database: move it away"):
        SqliteStore(path)
    assert path.read_text().startswith("tenants:")


def test_a_damaged_file_is_named(store, path):
    store.write([attempt(f"r{number}") for number in range(500)])
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:-4096] = b"\xa5" * (len(content) - 2 * 4096)
    path.write_bytes(content)
    batch = [attempt(f"s{number}") for number in range(500)]
    with pytest.raises(LedgerError, match="it is damaged: move it away"):
        store.write(batch)


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "var").write_text("in the way")
    with pytest.raises(LedgerError, match="make the file and its directory writable"):
        SqliteStore(tmp_path / "var" / "ledger.db")


def test_a_directory_in_its_place_is_named(tmp_path):
    with pytest.raises(LedgerError, match="make the file and its directory writable"):
        SqliteStore(tmp_path)


def test_a_file_that_disappears_is_missed_and_not_replaced(store, path):
    store.write([attempt("r1")])
    away = path.with_suffix(".away")
    path.rename(away)
    with pytest.raises(LedgerError, match="there is no ledger at"):
        store.write([attempt("r2")])
    assert not path.exists()
    away.rename(path)
    assert store.write([attempt("r2")]) == Written(1, [])
    assert [row.request_id for row in rows(path)] == ["r1", "r2"]


def test_a_file_restored_from_a_copy_is_the_one_written_to(store, path):
    store.write([attempt("r1")])
    copy = path.with_suffix(".copy")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    store.write([attempt("r2")])
    store.close()
    copy.replace(path)
    assert store.write([attempt("r3")]) == Written(1, [])
    assert [row.request_id for row in rows(path)] == ["r1", "r3"]


def test_reading_what_is_not_there_is_named(tmp_path):
    store = SqliteStore(tmp_path / "ledger.db")
    (tmp_path / "ledger.db").unlink()
    with pytest.raises(LedgerError):
        store.spent("support", 0)
    store.close()
