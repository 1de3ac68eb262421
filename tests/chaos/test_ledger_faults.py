"""The real ledger over real SQLite troubles: each is survived, said, and over when its cause is."""

import os
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event

import pytest

from gateway.ledger.report import build
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import LedgerError
from gateway.ledger.writer import Ledger, open_ledger
from tests.attempts import attempt
from tests.eventually import eventually

SOON = 30.0


class Watched(SqliteStore):
    """Tells when a batch was refused, so that a test can go on as soon as the trouble has been met."""

    def __init__(self, path, prepare=None):
        self.met = Event()
        super().__init__(path, prepare)

    def write(self, batch):
        try:
            return super().write(batch)
        except LedgerError:
            self.met.set()
            raise


def impatient(connection):
    connection.execute("PRAGMA busy_timeout = 10")


def costs(path):
    with closing(sqlite3.connect(path)) as connection:
        return [cost for (cost,) in connection.execute("SELECT cost_nanousd FROM attempts ORDER BY cost_nanousd")]


@contextmanager
def unprivileged():
    """File permissions mean nothing to root, so root steps down for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_lock_held_by_another_program(tmp_path, caplog):
    store = Watched(tmp_path / "ledger.db", impatient)
    ledger = Ledger(store, first_retry=0.01)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        for number in range(100):
            ledger.record(attempt(f"r{number}", cost_nanousd=number))
        assert store.met.wait(SOON)
        assert not ledger.flush(0.0)
        eventually(lambda: "another program holds it locked" in ledger.stats.last_error, "it says why")
        other.rollback()
    assert ledger.close(SOON)
    assert costs(tmp_path / "ledger.db") == list(range(100))
    assert ledger.stats.dropped == 0
    assert "another program holds it locked" in caplog.text


def test_a_disk_that_is_full_and_then_is_not(tmp_path):
    pages = [10]
    store = Watched(tmp_path / "ledger.db", lambda one: one.execute(f"PRAGMA max_page_count = {pages[0]}"))
    ledger = Ledger(store, first_retry=0.01)
    for number in range(2_000):
        ledger.record(attempt(f"r{number}", cost_nanousd=number))
    assert store.met.wait(SOON)
    assert "make room on its disk" in ledger.stats.last_error or not ledger.flush(0.0)
    pages[0] = 100_000
    assert ledger.flush(SOON)
    assert costs(tmp_path / "ledger.db") == list(range(2_000))
    assert ledger.close(SOON)


def test_a_file_that_is_away_and_comes_back(tmp_path):
    path, away = tmp_path / "ledger.db", tmp_path / "away.db"
    store = Watched(path)
    ledger = Ledger(store, first_retry=0.01)
    ledger.record(attempt("r0", cost_nanousd=0))
    assert ledger.flush(SOON)
    path.rename(away)
    ledger.record(attempt("r1", cost_nanousd=1))
    assert store.met.wait(SOON)
    assert not path.exists()
    away.rename(path)
    assert ledger.close(SOON)
    assert costs(path) == [0, 1]


def test_a_file_that_is_damaged_while_serving(tmp_path, caplog):
    """Nothing can be written any more; serving goes on, and closing puts into the log what waited."""
    path = tmp_path / "ledger.db"
    store = Watched(path, impatient)
    ledger = Ledger(store, first_retry=0.01)
    ledger.record(attempt("r0"))
    assert ledger.flush(SOON)
    store.close()  # so that the next batch opens the file anew, as after any trouble
    path.write_bytes(b"not a database any more" * 1_000)
    ledger.record(attempt("r1"))
    assert store.met.wait(SOON)
    ledger.record(attempt("r2"))
    assert not ledger.close(0.1)
    assert ledger.stats.dropped == 2
    assert '"attempt_id": "r1.1"' in caplog.text
    assert '"attempt_id": "r2.1"' in caplog.text


def test_a_directory_that_may_not_be_written():
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o555)
        with unprivileged(), pytest.raises(LedgerError, match="make the file and its directory writable"):
            open_ledger(f"sqlite:///{directory}/ledger.db")
        with unprivileged(), pytest.raises(LedgerError, match="make the file and its directory writable"):
            open_ledger(f"sqlite:///{directory}/var/ledger.db")
        assert os.listdir(directory) == []
        os.chmod(directory, 0o755)


def test_a_file_that_may_only_be_read_for_a_while():
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.db"
        store = SqliteStore(path)
        store.write([attempt("r0", cost_nanousd=0)])
        store.close()
        path.chmod(0o444)
        os.chmod(directory, 0o555)
        with unprivileged(), pytest.raises(LedgerError, match="make the file and its directory writable"):
            store.write([attempt("r1", cost_nanousd=1)])
        os.chmod(directory, 0o755)
        path.chmod(0o644)
        assert store.write([attempt("r1", cost_nanousd=1)]).added == 1
        store.close()
        assert costs(path) == [0, 1]


def test_a_report_while_the_ledger_is_written(tmp_path):
    """Whatever moment a report shows, its rows sum to its total and nothing has gone backwards."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = open_ledger(url)
    seen = 0
    for round in range(20):
        for number in range(200):
            ledger.record(attempt(f"r{round}-{number}", tenant=f"t{number % 7}", cost_nanousd=1_000_000_007))
        report = build(url, by=["tenant"])
        attempts = report.total[2]
        assert isinstance(attempts, int)
        assert attempts == sum(int(row[2]) for row in report.rows) >= seen
        seen = attempts
    assert ledger.close(SOON)
    assert build(url, by=["tenant"]).total[-1] == "4000.000028000"
