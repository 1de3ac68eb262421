"""What every store promises, over each database: what goes in comes out, once, and with its sums."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger.dimensions import DIMENSIONS
from gateway.ledger.opening import open_books, open_store
from gateway.ledger.record import Attempt, Label, Line, Reading
from gateway.ledger.report import build
from gateway.ledger.store import Batch, LedgerError, Store, Written
from gateway.ledger.sums import heard_from, spent_by_tenant
from gateway.ledger.text import REPLACEMENT
from tests.attempts import attempt

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
READING = Reading(NOON, "journal", "w", "m", "v", 10**9, True, 5, 1, 2, 3, 0.5, 100, 200, NOON - 1)
LABELS = "labels.user, labels.tags, labels.model_asked"
ENTRY = (
    "SELECT request_id, number, correction, tenant, key_id, endpoint, model, version, adapter, route, worker, "
    f"cost_basis, {LABELS}, started_at, opened_at, ttft_seconds, duration_seconds, outcome, status, estimated, final, "
    "prompt_tokens, cached_tokens, output_tokens, gpu_ns, cost_nanousd, choices "
    "FROM entries JOIN lines ON lines.id = entries.line JOIN labels ON labels.id = entries.label "
    "ORDER BY request_id, number, correction"
)

Read = Callable[[], list[Attempt]]


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}" if request.param == "sqlite" else request.getfixturevalue("url")


@pytest.fixture
def store(location: str) -> Iterator[Store]:
    with closing(open_store(location)) as store:
        yield store


@pytest.fixture
def entries(location: str) -> Read:
    def read() -> list[Attempt]:
        with open_books(location).snapshot() as ledger:
            return [_attempt(row) for row in ledger.rows(ENTRY)]

    return read


def _attempt(row: tuple[Any, ...]) -> Attempt:
    user, tags, asked = row[12:15]
    rest = list(row[15:])
    rest[6], rest[7] = bool(rest[6]), bool(rest[7])  # flags
    return Attempt(*row[:3], Line(*row[3:12]), Label(asked, user, tags), *rest)


def rollups(location: str) -> list[tuple[Any, ...]]:
    """The sums as kept, and as the entries have them, which must be the same."""
    kept = (
        "SELECT hour, line, outcome, requests, attempts, prompt_tokens, gpu_ns, cost_nanousd FROM rollups "
        "ORDER BY 1, 2, 3"
    )
    counted = (
        "SELECT CAST(FLOOR(started_at / 3600) AS BIGINT) * 3600, line, outcome, "
        "SUM(CASE WHEN correction = 0 THEN final ELSE 0 END), SUM(CASE WHEN correction = 0 THEN 1 ELSE 0 END), "
        "SUM(prompt_tokens), SUM(gpu_ns), SUM(cost_nanousd) FROM entries GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    with open_books(location).snapshot() as ledger:
        rows = ledger.rows(kept)
        assert rows == ledger.rows(counted)
    return rows


def test_an_attempt_is_kept_as_it_is(store: Store, entries: Read) -> None:
    plain = attempt(ttft_seconds=None, adapter="support", user='Zoë\n"\\{},NULL', tags='{"a":"b"}', cost_nanousd=2**62)
    estimated = attempt(
        "r2", estimated=True, gpu_ns=1, started_at=1_790_000_000.123456, final=False, status=0, choices=300
    )
    correction = attempt("r2", correction=1, cost_nanousd=-5, output_tokens=-3, outcome="crashed", user="")
    assert store.write(Batch([plain, estimated, correction])) == Written(3, [])
    assert entries() == [plain, estimated, correction]


def test_an_attempt_is_kept_once_and_counted_once(store: Store, location: str, entries: Read) -> None:
    assert store.write(Batch([attempt("r1"), attempt("r2"), attempt("r1")])) == Written(2, [])
    assert store.write(Batch([attempt("r2"), attempt("r3")])) == Written(1, [])
    assert [row.request_id for row in entries()] == ["r1", "r2", "r3"]
    assert [row[3:] for row in rollups(location)] == [(3, 3, 300, 3 * 12_345_678, 3 * 309_000)]


def test_a_correction_adds_its_differences_and_no_request(store: Store, location: str) -> None:
    store.write(Batch([attempt("r1"), attempt("r1", correction=1, prompt_tokens=-40, cost_nanousd=-9_000)]))
    assert [row[3:] for row in rollups(location)] == [(1, 1, 60, 2 * 12_345_678, 300_000)]


def test_a_row_that_cannot_be_kept_does_not_take_the_others_with_it(store: Store, location: str, entries: Read) -> None:
    bad = [
        attempt("big", cost_nanousd=2**70),
        attempt("none", tenant=None),
        attempt("odd", user=object()),
        attempt("never", started_at=float("inf")),
        attempt("undated", opened_at=None),
    ]
    good = [attempt(f"r{number}") for number in range(5)]
    written = store.write(Batch([good[0], *bad[:2], good[1], *bad[2:], *good[2:]]))
    assert written.added == 5
    assert {id(row) for row, _ in written.refused} == {id(row) for row in bad}
    assert all(why for _, why in written.refused)
    assert entries() == good
    assert [row[4] for row in rollups(location)] == [5]


def test_odd_characters_of_clients_cost_nobody_a_row(store: Store, entries: Read) -> None:
    odd = [attempt("r1", user="a\x00b"), attempt("r2", tags='{"k":"\ud800"}'), attempt("r3", model_asked="\U0001f600")]
    assert store.write(Batch(odd)) == Written(3, [])
    assert [(row.label.user, row.label.tags, row.label.model_asked) for row in entries()] == [
        (f"a{REPLACEMENT}b", "", "auto"),
        ("", f'{{"k":"{REPLACEMENT}"}}', "auto"),
        ("", "", "\U0001f600"),
    ]


def test_labels_may_be_longer_than_an_index_takes(store: Store, entries: Read) -> None:
    source = random.Random(1)
    long = [
        attempt(f"r{number}", tags="".join(chr(source.randrange(33, 9000)) for _ in range(9_000))) for number in (1, 2)
    ]
    assert store.write(Batch(long)) == Written(2, [])
    assert entries() == long


def test_a_reading_is_kept_once_and_a_bad_one_harms_nobody(store: Store, location: str) -> None:
    bad = READING._replace(at=NOON + 1, prompt_tokens=2**70)
    store.write(Batch([attempt()], [READING, bad, READING]))
    store.write(Batch([], [READING, READING._replace(at=NOON + 2)]))
    with open_books(location).snapshot() as ledger:
        assert ledger.rows(f"SELECT {', '.join(Reading._fields)} FROM readings ORDER BY at") == [
            READING,
            READING._replace(at=NOON + 2),
        ]
        assert ledger.rows("SELECT COUNT(*) FROM entries") == [(1,)]


def test_spending_is_by_tenant_and_hour(store: Store) -> None:
    hours = [attempt(f"r{hour}", started_at=NOON + hour * 3600.0, cost_nanousd=10**hour) for hour in range(4)]
    store.write(Batch([*hours, attempt("other", tenant="another", cost_nanousd=5, started_at=NOON)]))
    assert store.spent("support", 0) == 1_111
    assert store.spent("support", NOON + 3600) == 1_110
    assert store.spent("support", NOON + 9 * 3600) == 0
    assert store.spent("nobody", 0) == 0
    with store.snapshot() as ledger:
        assert spent_by_tenant(ledger, 0) == {"support": 1_111, "another": 5}
        assert spent_by_tenant(ledger, NOON + 3600) == {"support": 1_110}


def test_whom_the_ledger_has_heard_from_of_late(store: Store) -> None:
    made = [(0, "w", "a"), (3, "w", "a"), (2, "x", "a"), (1, "x", "b"), (9, "gone", "c"), (-1, "w", "d")]
    store.write(Batch([], [READING._replace(at=NOON + at, worker=w, source=source) for at, w, source in made]))
    with store.snapshot() as ledger:
        assert heard_from(ledger, ["w", "x"], NOON) == {"a": NOON + 3, "b": NOON + 1}
        assert heard_from(ledger, ["w", "x"], NOON + 1.5) == {"a": NOON + 3}
        assert heard_from(ledger, [], NOON) == {}


def test_every_dimension_can_be_asked_for_and_sorts_by_its_bytes(store: Store, location: str) -> None:
    store.write(Batch([attempt(f"r{name}", tenant=name, started_at=NOON) for name in ("b", "B", "_", "é", "a")]))
    report = build(location, by=["tag:team" if name == "tag:NAME" else name for name in DIMENSIONS])
    assert [row[0] for row in report.rows] == ["B", "_", "a", "b", "é"]
    assert dict(zip(report.columns, report.rows[0], strict=True)) == {
        "tenant": "B",
        "model": "chat-8b",
        "version": "int4",
        "adapter": "",
        "route": "cheap-first",
        "worker": "chat-int4-0",
        "key": "prod",
        "endpoint": "chat.completions",
        "outcome": "ok",
        "day": "2026-11-21",
        "hour": "2026-11-21T12:00Z",
        "user": "",
        "model_asked": "auto",
        "tag:team": "",
        "requests": 1,
        "attempts": 1,
        "prompt_tokens": 100,
        "cached_tokens": 40,
        "output_tokens": 25,
        "gpu_seconds": "0.012345678",
        "metered_usd": "0.000309000",
        "cost_usd": "0.000000000",
    }


def test_any_span_sums_to_what_is_in_it(store: Store, location: str) -> None:
    source = random.Random(7)
    made = [attempt(f"r{n}", started_at=NOON + source.randrange(0, 5 * 3_600_000) / 1_000) for n in range(300)]
    store.write(Batch(made))
    edges = [None, NOON, NOON + 3600, NOON + 3600.5, NOON + 5000, NOON + 7199.999, NOON + 7200, NOON + 4 * 3600 + 1]
    for since in edges:
        for until in edges:
            start, end = since or 0, until or 2**40
            held = sum(start <= one.started_at < end for one in made)
            assert build(location, [], since, until).total[1] == held, (since, until)


def test_several_may_open_a_new_ledger_together_and_write_the_same(location: str, entries: Read) -> None:
    """Each batch in another order, which must not make two wait for each other."""

    def open_and_write(number: int) -> int:
        batch = [attempt(f"s{one}", tenant=f"t{one % 7}", user=f"u{one}") for one in range(60)]
        random.Random(number).shuffle(batch)
        with closing(open_store(location)) as store:
            return store.write(Batch([*batch, attempt(f"r{number}")], [READING])).added

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(open_and_write, range(18))) == 78
    assert len(entries()) == 78
    assert sum(row[4] for row in rollups(location)) == 78


def test_a_snapshot_is_of_one_moment(store: Store, location: str) -> None:
    store.write(Batch([attempt("r1")]))
    with open_books(location).snapshot() as ledger:
        assert ledger.rows("SELECT COUNT(*) FROM entries") == [(1,)]
        store.write(Batch([attempt("r2")]))
        assert list(ledger.stream("SELECT request_id FROM entries WHERE started_at > :since", {"since": 0})) == [
            ("r1",)
        ]


def test_a_change_is_made_whole_or_not_at_all(store: Store) -> None:
    add = "INSERT INTO rollups VALUES (:hour, 1, 'ok', 1, 1, 0, 0, 0, 0, 0)"
    count = "SELECT COUNT(*) FROM rollups WHERE outcome LIKE 'o%'"
    with store.change() as change:
        assert change.add(add, [{"hour": 0}, {"hour": 3600}]) == 2
        assert change.rows(count) == [(2,)]
    with ExitStack() as stack:
        stack.enter_context(suppress(KeyError))
        stack.enter_context(store.change()).add(add, [{"hour": 7200}])
        raise KeyError
    with store.snapshot() as ledger:
        assert ledger.rows(count) == [(2,)]


def test_changes_are_made_one_at_a_time(store: Store, location: str) -> None:
    began = threading.Event()
    order: list[str] = []

    def second() -> None:
        with closing(open_store(location)) as other:
            began.set()
            with other.change():
                order.append("second")

    with store.change():
        thread = threading.Thread(target=second)
        thread.start()
        assert began.wait(10)
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_newer_schema_is_refused_and_an_older_one_is_not_read(store: Store, location: str) -> None:
    with store.change() as change:
        change.add("INSERT INTO ledger_schema (version) VALUES (:version)", [{"version": 99}])
    with pytest.raises(LedgerError, match=r"newer Tollgate \(its schema is 99.*upgrade Tollgate"):
        open_store(location)
    with pytest.raises(LedgerError, match="newer Tollgate"), open_books(location).snapshot():
        pass
    with store.change() as change:
        change.add("UPDATE ledger_schema SET version = -version WHERE version > :least", [{"least": 1}])
    with pytest.raises(LedgerError, match=r"start the gateway once|starts makes it"), open_books(location).snapshot():
        pass
