"""Sums by day say what the rows say, as long as they add up; where they do not, the rows are read."""

import itertools
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ledger.days import DAY, SETTLED, DaySums, valid
from gateway.ledger.report import build
from gateway.ledger.retention import prune
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Batch
from tests.attempts import attempt

FIRST = 20_700  # days since 1970
START = FIRST * DAY
NOW = START + 3 * DAY + SETTLED


def sum_up(store, now=NOW):
    days = DaySums()
    return sum(1 for _ in iter(lambda: days.step(store, now), False))


def summed(store):
    with store.snapshot() as ledger:
        return valid(ledger, 0, 1 << 20)


def without_entries(path):
    """What is told from sums alone."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM entries")


def test_days_that_are_over_are_summed_up_an_hour_at_a_time(store, path):
    store.write(Batch([attempt(f"r{n}", started_at=START + n * DAY, user=f"u{n % 2}") for n in range(5)]))
    before = build(f"sqlite:///{path}", ["user"])
    assert sum_up(store) == 3 * 24
    assert summed(store) == [FIRST, FIRST + 1, FIRST + 2]
    assert sum_up(store) == 0
    assert build(f"sqlite:///{path}", ["user"]).rows == before.rows
    without_entries(path)
    assert [row[:2] for row in build(f"sqlite:///{path}", ["user", "day"]).rows] == [
        ("u0", "2026-09-04"),
        ("u0", "2026-09-06"),
        ("u1", "2026-09-05"),
    ]


def test_a_day_is_not_over_before_its_end_and_some_hours_more(store):
    store.write(Batch([attempt("r1", started_at=START)]))
    assert sum_up(store, START + DAY + SETTLED - 1) == 0
    assert sum_up(store, START + DAY + SETTLED) == 24


@pytest.mark.parametrize("late", [{"request_id": "r2"}, {"correction": 1, "cost_nanousd": -1}])
def test_what_comes_late_has_its_day_read_from_the_rows_and_summed_up_again(store, path, late):
    store.write(Batch([attempt("r1", started_at=START, user="ann")]))
    sum_up(store)
    fields = {"request_id": "r1", "started_at": START + 5, "user": "bob"} | late
    store.write(Batch([attempt(**fields)]))
    assert summed(store) == []
    report = build(f"sqlite:///{path}", ["user"])
    assert [row[0] for row in report.rows] == ["ann", "bob"]
    assert sum_up(store) == 24
    assert summed(store) == [FIRST]
    assert build(f"sqlite:///{path}", ["user"]).rows == report.rows


def test_one_that_was_begun_and_left_counts_for_nothing(store, path):
    store.write(Batch([attempt(f"r{n}", started_at=START + n * 3600, user="ann") for n in range(24)]))
    begun = DaySums()
    for _ in range(7):
        assert begun.step(store, NOW)
    assert summed(store) == []
    assert [row[:2] for row in build(f"sqlite:///{path}", ["user"]).rows] == [("ann", 24)]
    assert sum_up(store) == 24
    assert [row[:2] for row in build(f"sqlite:///{path}", ["user"]).rows] == [("ann", 24)]


def test_amounts_of_whole_dollars_add_up(store):
    costs = [1_999_999_999, 10**15 + 7, -1_500_000_001]
    users = ["a", "b", "c"]
    store.write(
        Batch([attempt(f"r{n}", started_at=START, user=users[n], cost_nanousd=cost) for n, cost in enumerate(costs)])
    )
    assert sum_up(store) == 24
    assert summed(store) == [FIRST]


def test_a_day_that_does_not_come_right_is_made_once(store, path):
    store.write(Batch([attempt("r1", started_at=START)]))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE rollups SET requests = 2")
    assert sum_up(store) == 24
    assert summed(store) == []


def test_they_outlive_the_rows(store, path):
    store.write(Batch([attempt("r1", started_at=START, user="ann"), attempt("r2", started_at=START + DAY, user="bob")]))
    sum_up(store, START + DAY + SETTLED)
    while prune(store, NOW + 10 * DAY, 3 * DAY):
        pass
    report = build(f"sqlite:///{path}", ["user"])
    assert [row[:2] for row in report.rows] == [("", 1), ("ann", 1)]
    assert "removed" in report.notes[-1]
    assert "removed" not in "".join(build(f"sqlite:///{path}", ["user"], START, START + DAY).notes)
    assert sum_up(store, NOW + 20 * DAY) == 0


numbers = itertools.count()
costs = st.integers(-(10**12), 10**12)
moments = st.integers(0, 4 * DAY).map(lambda seconds: float(START + seconds))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=st.lists(
        st.tuples(moments, st.sampled_from("abc"), st.booleans(), st.integers(-(10**12), 10**12)), max_size=25
    ),
    since=st.none() | moments,
    until=st.none() | moments,
    by=st.sampled_from([["user"], ["user", "day"], ["outcome", "user"], ["user", "hour"]]),
)
def test_a_report_is_the_same_with_them_and_without(tmp_path, drawn, since, until, by):
    path = tmp_path / f"ledger-{next(numbers)}.db"
    store = SqliteStore(path)
    made = [
        attempt(f"r{n}", started_at=at, user=user, cost_nanousd=cost, outcome="ok" if n % 2 else "aborted")
        for n, (at, user, _, cost) in enumerate(drawn)
    ]
    store.write(Batch([one for one, (_, _, late, _) in zip(made, drawn, strict=True) if not late]))
    sum_up(store)
    store.write(Batch([one for one, (_, _, late, _) in zip(made, drawn, strict=True) if late]))
    found = [build(f"sqlite:///{path}", by, since, until).rows]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM days")
    found.append(build(f"sqlite:///{path}", by, since, until).rows)
    sum_up(store)
    found.append(build(f"sqlite:///{path}", by, since, until).rows)
    store.close()
    assert found[0] == found[1] == found[2]
