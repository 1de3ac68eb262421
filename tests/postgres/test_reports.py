"""Reports, exports and pruning say of PostgreSQL what they say of SQLite."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from gateway.ledger import fits, report
from gateway.ledger.days import DaySums, valid
from gateway.ledger.export import attempts, focus, totals
from gateway.ledger.opening import open_books, open_store
from gateway.ledger.record import Label, Line
from gateway.ledger.retention import prune, pruned_before
from gateway.ledger.store import Batch, Store
from gateway.ledger.sums import span
from gateway.table import Price
from tests.attempts import LINE, attempt
from tests.bills import NOBODY, nobodys

NOON = 1_795_262_400.0
HOUR = 3_600
LABELS = (Label("auto", "ann", '{"team":"search"}'), Label("auto", "bob"), Label("gpt-4o", "é"))
IDLE = nobodys("__idle__")
HOSTED = LINE._replace(worker="hosted", cost_basis="token_price", tenant="research")
PRICES = {"chat-8b": Price(123_456_789, 23_456_789, 987_654_321)}


def number(store: Store, names: Line | Label) -> int:
    table = "lines" if isinstance(names, Line) else "labels"
    with store.change() as change:
        if isinstance(names, Line):
            columns = ", ".join(names._fields)
            places = ", ".join(f":{name}" for name in names._fields)
            statement = f"INSERT INTO lines ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING"
            change.add(statement, [names._asdict()])
        condition = " AND ".join(f"{table}.{name} = :{name}" for name in names._fields)
        return change.rows(f"SELECT id FROM {table} WHERE {condition}", names._asdict())[0][0]


def fill(store: Store) -> None:
    """Attempts of five hours, one of them corrected, and bills of three hours."""
    made = [
        attempt(
            f"r{n}",
            started_at=NOON + n * 700.125,
            cost_nanousd=7**n,
            outcome="ok" if n % 3 else "aborted",
            **(HOSTED if n % 4 == 3 else LINE)._asdict(),
            **LABELS[n % 3]._asdict(),
        )
        for n in range(20)
    ]
    correction = made[3]._replace(correction=1, cost_nanousd=-7, output_tokens=-1)
    assert store.write(Batch([*made, correction])).refused == []
    allocations = [
        {"hour": int(NOON) + hour * HOUR, "line": number(store, line), "label": number(store, label), "cost": cost}
        for hour in range(3)
        for line, label, cost in (
            (IDLE, NOBODY, 1_000_000_007 + hour),
            (LINE, LABELS[0], 77_000_000),
            (LINE, LABELS[1], 2**62),
        )
    ]
    windows = [
        {"worker": LINE.worker, "start": row["hour"], "end": row["hour"] + 60, "cost": 2**62 + 1_077_000_007 + hour}
        for hour, row in enumerate(allocations[::3])
    ]
    with store.change() as change:
        change.add(
            "INSERT INTO allocations (hour, line, label, cost_nanousd) VALUES (:hour, :line, :label, :cost)",
            allocations,
        )
        change.add(
            'INSERT INTO windows (worker, "start", "end", hourly, cost_nanousd, busy_ns, attributed_at) '
            "VALUES (:worker, :start, :end, 1, :cost, 0, 0)",
            windows,
        )
        change.add(
            "INSERT INTO fits (model, version, gpu, at, n, r2, a0, a1, a2, a3, a4) "
            "VALUES ('m', 'v', 'g', :at, 5, 0.5, 1, 2, 3, 4, 5)",
            [{"at": 1.0}, {"at": 2.0}],
        )


@pytest.fixture
def stores(url: str, tmp_path: Path):
    urls = f"sqlite:///{tmp_path / 'ledger.db'}", url
    opened = [open_store(one) for one in urls]
    for store in opened:
        fill(store)
    yield urls, opened
    for store in opened:
        store.close()


DIMENSIONS = ("tenant", "worker", "outcome", "day", "hour", "user", "model_asked", "tag:team")
SPANS = (
    (None, None),
    (NOON + 1, NOON + 2 * HOUR),
    (NOON + 100, NOON + 2000),
    (NOON + HOUR, None),
    (None, NOON + 2.5 * HOUR),
)


def test_reports_are_the_same(stores) -> None:
    urls, _ = stores
    for by in [(), *permutations(DIMENSIONS, 2)][::7]:
        for since, until in SPANS:
            one, other = (report.build(url, by, since, until, PRICES) for url in urls)
            assert one == other
    assert len(one.rows) > 1
    assert one.shared.unshared > 0


def test_exports_are_the_same(stores) -> None:
    urls, _ = stores
    found = []
    for url in urls:
        with open_books(url).snapshot() as ledger:
            within = span(NOON, None, pruned_before(ledger))
            raw = list(attempts.rows(ledger, within))
            hours = focus.hours(ledger, within)
            bill = [sorted(map(repr, rows)) for rows in focus.rows(ledger, hours, 0, "tollgate", NOON)]
            found.append((raw, attempts.count(ledger, within), hours, bill, totals.read(ledger, ["user"], None, None)))
    assert found[0] == found[1]
    assert len(found[0][0]) == 21


def test_fits_are_the_same(stores) -> None:
    urls, _ = stores
    assert fits.latest(urls[0]) == fits.latest(urls[1])
    assert [fit.at for fit in fits.latest(urls[1])] == [2.0]


def test_sums_by_day_are_the_same(stores) -> None:
    urls, opened = stores
    before = report.build(urls[0], ["user", "day"])
    for store in opened:
        days = DaySums()
        assert sum(1 for _ in iter(lambda days=days, store=store: days.step(store, NOON + 2 * 86_400), False)) == 24
        with store.snapshot() as ledger:
            assert valid(ledger, 0, 1 << 20) == [int(NOON // 86_400)]
    assert [report.build(url, ["user", "day"]) for url in urls] == [before, before]


def test_pruning_takes_the_same(stores) -> None:
    urls, opened = stores
    now = NOON + 2.2 * HOUR + 3 * 86_400
    assert [prune(store, now, 3 * 86_400) for store in opened] == [12, 12]
    assert [prune(store, now, 3 * 86_400) for store in opened] == [0, 0]
    for by in (["tenant"], ["user"], ["tag:team", "hour"]):
        one, other = (report.build(url, by) for url in urls)
        assert one == other
