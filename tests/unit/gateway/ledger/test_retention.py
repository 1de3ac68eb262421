"""What is old goes step by step, and no money with it."""

import sqlite3
from contextlib import closing

from gateway.ledger import retention
from gateway.ledger.record import Reading
from gateway.ledger.report import build
from gateway.ledger.retention import LEAST, prune
from gateway.ledger.store import Batch
from tests.attempts import LINE, attempt

DAY = 86_400.0
NOW = 1_790_000_000.0
KEEP = 10 * DAY


def reading(at, worker=LINE.worker):
    return Reading(at, "s", worker, "m", "v", 1, True, 0, 0, 0, 0, 0.0, 0, 0, 0.0)


def rows(path, table):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]


def test_only_what_is_older_goes_and_sums_stay(store, path):
    ages = (0, 9 * DAY, 10 * DAY + 3600, 30 * DAY)
    store.write(Batch([attempt(f"r{age}", started_at=NOW - age) for age in ages], [reading(NOW - age) for age in ages]))
    before = build(f"sqlite:///{path}", ["tenant", "hour"])
    assert (prune(store, NOW, KEEP), prune(store, NOW, KEEP), prune(store, NOW, KEEP)) == (2, 2, 0)
    assert (rows(path, "entries"), rows(path, "readings"), rows(path, "rollups")) == (2, 2, 4)
    assert build(f"sqlite:///{path}", ["tenant", "hour"]).rows == before.rows


def test_it_ends_on_a_full_hour(store, path):
    edge = (NOW - KEEP) // 3600 * 3600
    store.write(Batch([attempt("r1", started_at=edge - 0.001), attempt("r2", started_at=edge)]))
    assert prune(store, NOW, KEEP) == 1
    assert rows(path, "entries") == 1


def test_a_step_is_bounded_and_what_it_has_not_reached_counts_as_gone(store, path, monkeypatch):
    monkeypatch.setattr(retention, "ROWS_PER_STEP", 3)
    store.write(Batch([attempt(f"r{n}", started_at=NOW - 30 * DAY + n, user="ann") for n in range(8)]))
    taken = []
    while removed := prune(store, NOW, KEEP):
        taken.append(removed)
        report = build(f"sqlite:///{path}", ["user"])
        assert [row[:2] for row in report.rows] == [("", 8)]
    assert taken == [3, 3, 2]


def test_what_is_young_stays_however_little_is_to_be_kept(store, path):
    store.write(Batch([attempt("r1", started_at=NOW - LEAST + 1)]))
    assert prune(store, NOW, 0.0) == 0
    assert rows(path, "entries") == 1


def test_nothing_is_said_to_be_gone_where_nothing_was(store, path):
    store.write(Batch([attempt("r1", started_at=NOW - 2 * DAY)]))
    assert prune(store, NOW, KEEP) == 0
    assert not any("removed" in note for note in build(f"sqlite:///{path}", ["user"]).notes)
    store.write(Batch([attempt("r2", started_at=NOW - 11 * DAY)]))
    assert prune(store, NOW, KEEP) == 1
    assert any("removed" in note for note in build(f"sqlite:///{path}", ["user"]).notes)


def test_time_that_goes_back_brings_nothing_back(store, path):
    store.write(Batch([attempt("r1", started_at=NOW - 30 * DAY)]))
    prune(store, NOW, KEEP)
    prune(store, NOW - 20 * DAY, KEEP)
    with closing(sqlite3.connect(path)) as connection:
        (before,) = connection.execute("SELECT pruned_before FROM retention").fetchone()
    assert before == (NOW - KEEP) // 3600 * 3600
