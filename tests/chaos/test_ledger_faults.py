"""The real ledger over real troubles: each is survived, said, and over when its cause is; what was said waits."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.ledger.journal.writer import Journal
from gateway.ledger.opening import open_books, open_store
from gateway.ledger.report import build
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Batch, LedgerError
from gateway.settler.settler import ROWS_PER_BATCH
from tests.attempts import LABEL, attempt
from tests.eventually import eventually
from tests.ledger_site import START, Site, row


@pytest.fixture
def site(tmp_path):
    one = Site(tmp_path / "journal", SqliteStore(tmp_path / "ledger.db", impatient))
    yield one
    one.close()


def impatient(connection):
    connection.execute("PRAGMA busy_timeout = 10")


def costs(path):
    with closing(sqlite3.connect(path)) as connection:
        return [cost for (cost,) in connection.execute("SELECT cost_nanousd FROM entries ORDER BY cost_nanousd")]


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


# SQLite


def test_a_lock_held_by_another_program(site, tmp_path, caplog):
    site.settle()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        site.record(*range(100))
        status = site.settle()
        assert "another program holds it locked" in status.last_error
        assert status.waiting == 100
        assert status.lag_seconds == 1.0
        site.record(*range(100, 200))
        assert site.settle(30.0).lag_seconds == 31.0
        other.rollback()
    status = site.settle_all()
    assert status.settled == 200
    assert status.lag_seconds == 0.0
    assert costs(tmp_path / "ledger.db") == list(range(200))
    assert "another program holds it locked" in caplog.text
    assert "written again" in caplog.text


def test_a_disk_that_is_full_and_then_is_not(tmp_path):
    pages = [60]
    store = SqliteStore(tmp_path / "ledger.db", lambda one: one.execute(f"PRAGMA max_page_count = {pages[0]}"))
    site = Site(tmp_path / "journal", store)
    site.record(*range(2_000))
    assert "make room on its disk" in site.settle().last_error
    assert costs(tmp_path / "ledger.db") == []
    pages[0] = 100_000
    assert site.settle_all().settled == 2_000
    assert costs(tmp_path / "ledger.db") == list(range(2_000))
    site.close()


def test_a_file_that_is_away_and_comes_back(site, tmp_path):
    path, away = tmp_path / "ledger.db", tmp_path / "away.db"
    site.record(0)
    assert site.settle().settled == 1
    path.rename(away)
    site.record(1)
    assert "bring it back" in site.settle().last_error
    assert not path.exists()
    away.rename(path)
    assert site.settle_all().settled == 2
    assert costs(path) == [0, 1]


def test_a_file_that_is_damaged_and_replaced_by_a_copy(tmp_path):
    """The copy is older: what the file had beyond it is lost with the file, but nothing that was still waiting."""
    path = tmp_path / "ledger.db"
    store = SqliteStore(path, impatient)
    site = Site(tmp_path / "journal", store)
    site.record(0)
    assert site.settle().settled == 1
    store.close()  # so that the next batch opens the file anew, as after any trouble
    copy = path.read_bytes()
    path.write_bytes(b"not a database any more" * 1_000)
    site.record(1)
    assert "move it away" in site.settle().last_error
    site.record(2)
    path.unlink()
    path.write_bytes(copy)
    site.settle_all()
    assert costs(path) == [0, 1, 2]
    site.close()


def test_a_directory_that_may_not_be_written():
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o555)
        with unprivileged():
            for name in ("ledger.db", "var/ledger.db"):
                with pytest.raises(LedgerError, match="make the file and its directory writable"):
                    open_store(f"sqlite:///{directory}/{name}")
            with pytest.raises(LedgerError, match=r"cannot be written \(Permission denied\)"):
                Journal(Path(directory), "me", max_bytes=1)
        assert os.listdir(directory) == []
        os.chmod(directory, 0o755)


def test_a_file_that_may_only_be_read_for_a_while():
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.db"
        store = SqliteStore(path)
        store.write(Batch([row(0)]))
        store.close()
        path.chmod(0o444)
        os.chmod(directory, 0o555)
        with unprivileged(), pytest.raises(LedgerError, match="make the file and its directory writable"):
            store.write(Batch([row(1)]))
        os.chmod(directory, 0o755)
        path.chmod(0o644)
        assert store.write(Batch([row(1)])).added == 1
        store.close()
        assert costs(path) == [0, 1]


def test_a_report_while_the_ledger_is_written(site, tmp_path):
    """Whatever moment a report shows, its rows sum to its total and nothing has gone backwards."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    seen = 0
    for turn in range(20):
        for number in range(200):
            site.ledger.record(row(200 * turn + number, line=attempt(tenant=f"t{number % 7}").line))
        site.settle()
        report = build(url, by=["tenant"])
        attempts = report.total[2]
        assert attempts == sum(int(one[2]) for one in report.rows) == seen + 200
        seen = attempts
    assert open_books(url).spent("t3", 0) == sum(number for number in range(4_000) if number % 200 % 7 == 3)


# Away for long


def test_a_ledger_that_is_away_for_ten_minutes(site, tmp_path, caplog):
    """Serving waits for nothing, the settler keeps one batch in memory and the rest where it stands, and says truly how
    far behind it is."""
    path = tmp_path / "ledger.db"
    site.record(0)
    site.settle()
    path.rename(tmp_path / "away.db")
    caplog.set_level(logging.ERROR)
    recorded = 1
    for second in range(1, 601):
        site.record(*range(recorded, recorded + 50))
        recorded += 50
        status = site.settle()
        assert status.last_error
        assert status.waiting <= ROWS_PER_BATCH
        assert status.lag_seconds == second
        assert status.journals == {"me": 1}
    assert site.journal.settled == recorded == 30_001
    assert not site.journal.full
    assert len([line for line in caplog.text.splitlines() if "ERROR" in line]) == 1, "said once, not at every try"
    assert site.longest < 0.5
    assert site.ledger.stats.dropped == 0
    (tmp_path / "away.db").rename(path)
    status = site.settle_all()
    assert status.lag_seconds == 0.0
    assert status.journals == {"me": recorded}
    assert costs(path) == list(range(recorded))
    assert len(list(site.journal.directory.glob("*.log"))) == 1, "the journal has shrunk"


# The journal is full


def lost_rows(caplog):
    """What the log says is lost, as one would enter it by hand."""
    found = [one.getMessage() for one in caplog.records if one.getMessage().startswith("attempt lost")]
    return [json.loads(one.partition(": ")[2]) for one in found]


def fill(site, first=1):
    """Requests one after the other, until the journal takes no more beginnings."""
    number = first
    while not site.journal.full:
        assert number < 10_000
        site.now += 0.001
        site.ledger.intend(row(number, outcome="crashed", opened_at=site.now, duration_seconds=0.0))
        site.record(number)
        number += 1
    return number


def test_on_full_serve(tmp_path, caplog):
    """Ends of what began before have a place; what begins when there is none goes to the log, whole, and is counted."""
    path = tmp_path / "ledger.db"
    site = Site(tmp_path / "journal", SqliteStore(path), segments=2)
    site.settle()
    path.rename(tmp_path / "away.db")
    begun = range(9_000_000, 9_000_010)
    for number in begun:
        site.ledger.intend(row(number, outcome="crashed", opened_at=site.now))
    site.now += 1.0
    count = fill(site)
    assert not site.ledger.has_no_room, "serving goes on"
    site.now += 1.0
    site.ledger.intend(row(count, opened_at=site.now))  # finds no room
    site.record(count)
    count += 1
    for number in begun:
        site.ledger.record(row(number, opened_at=START))
    site.record(*range(count, count + 10))
    assert site.ledger.stats.owed == 0, "there is a place for the ends"
    lost = lost_rows(caplog)
    first_lost = lost[0]["cost_nanousd"]
    assert count - 2 <= first_lost < count, "the first whose beginning found no room"
    assert site.ledger.stats.dropped == len(lost)
    assert [one["cost_nanousd"] for one in lost] == list(range(first_lost, count + 10))
    assert lost[0]["line"]["tenant"] == "support"
    assert lost[0]["label"] == LABEL._asdict()
    assert lost[0].keys() == row(1)._asdict().keys()
    (tmp_path / "away.db").rename(path)
    site.settle_all()
    eventually(lambda: not site.journal.full or None, "there is room again")
    site.record(count + 10)
    site.settle_all()
    assert site.ledger.stats.owed == 0
    assert costs(path) == [*range(1, first_lost), count + 10, *begun]
    site.close()
    assert len(costs(path)) == first_lost + len(begun), "and nothing is settled as crashed"


def test_on_full_refuse(tmp_path, caplog):
    """Nothing is begun that could be lost."""
    path = tmp_path / "ledger.db"
    site = Site(tmp_path / "journal", SqliteStore(path), segments=2, refuses=True)
    site.settle()
    path.rename(tmp_path / "away.db")
    begun = range(9_000_000, 9_000_020)
    for number in begun:
        site.ledger.intend(row(number, outcome="crashed", opened_at=site.now))
    count = 1
    while not site.ledger.has_no_room:
        site.now += 0.001
        site.ledger.intend(row(count, opened_at=site.now))
        site.record(count)
        count += 1
    site.record(*begun)
    assert site.ledger.stats.dropped == 0
    (tmp_path / "away.db").rename(path)
    site.settle_all()
    eventually(lambda: not site.ledger.has_no_room or None, "requests are taken again")
    site.settle_all()
    assert costs(path) == [*range(1, count), *begun]
    assert lost_rows(caplog) == []
    site.close()
