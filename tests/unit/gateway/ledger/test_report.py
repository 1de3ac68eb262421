"""The bill against the same sums done by hand."""

import itertools
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ledger.report import MEASURES, build, exact
from gateway.ledger.sqlite import DIMENSIONS, SqliteStore
from gateway.ledger.store import LedgerError
from tests.attempts import attempt

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
HOUR = 3_600


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "ledger.db")
    yield store
    store.close()


def test_a_bill_by_tenant(store, url):
    store.write(
        [
            attempt("r1", 1, outcome="failed", output_tokens=0, cost_nanousd=5, gpu_seconds=0.1, started_at=NOON),
            attempt("r1", 2, cost_nanousd=30, gpu_seconds=0.2, started_at=NOON + 1),
            attempt("r2", 1, cost_nanousd=400, gpu_seconds=0.000000001, started_at=NOON),
            attempt("r3", 1, tenant="another", cost_nanousd=12_000_000_000, gpu_seconds=3600.0, started_at=NOON),
        ]
    )
    report = build(url, by=["tenant"])
    assert report.columns == ("tenant", *MEASURES)
    assert report.rows == [
        ("another", 1, 1, 100, 40, 25, "3600.000000000", "12.000000000"),
        ("support", 2, 3, 300, 120, 50, "0.300000001", "0.000000435"),
    ]
    assert report.total == ("", 3, 4, 400, 160, 75, "3600.300000001", "12.000000435")


def test_a_retried_request_counts_once_where_it_ended(store, url):
    store.write(
        [
            attempt("r1", 1, worker="a", outcome="failed"),
            attempt("r1", 2, worker="b"),
            attempt("r2", 10, worker="c"),
            attempt("r2", 9, worker="b", outcome="broken"),
        ]
    )
    report = build(url, by=["worker"])
    assert [row[:3] for row in report.rows] == [("a", 0, 1), ("b", 1, 2), ("c", 1, 1)]
    assert report.total[:3] == ("", 2, 4)


def test_a_span_of_time_includes_its_start_and_not_its_end(store, url):
    store.write([attempt(f"r{hour}", started_at=NOON + hour * HOUR) for hour in range(4)])
    report = build(url, by=["hour"], since=NOON + HOUR, until=NOON + 3 * HOUR)
    assert [row[0] for row in report.rows] == ["2026-11-21T13:00Z", "2026-11-21T14:00Z"]
    assert build(url, by=[], since=NOON + 2 * HOUR).total[1] == 2
    assert build(url, by=[], until=NOON + HOUR).total[1] == 1


def test_days_are_utc_and_end_at_midnight(store, url):
    midnight = NOON + 12 * HOUR
    store.write([attempt("r1", started_at=midnight - 0.0001), attempt("r2", started_at=midnight)])
    assert [row[:2] for row in build(url, by=["day"]).rows] == [("2026-11-21", 1), ("2026-11-22", 1)]


def test_without_dimensions_there_is_one_row_which_is_the_total(store, url):
    assert build(url, by=[]).rows == []
    assert build(url, by=[]).total == (0, 0, 0, 0, 0, "0.000000000", "0.000000000")
    store.write([attempt()])
    assert build(url, by=[]).rows == [build(url, by=[]).total] == [(1, 1, 100, 40, 25, "0.012345678", "0.000309000")]


def test_every_dimension_can_be_asked_for(store, url):
    store.write([attempt(started_at=NOON)])
    report = build(url, by=list(DIMENSIONS))
    (row,) = report.rows
    assert dict(zip(report.columns, row, strict=True)) == {
        "tenant": "support",
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
        "requests": 1,
        "attempts": 1,
        "prompt_tokens": 100,
        "cached_tokens": 40,
        "output_tokens": 25,
        "gpu_seconds": "0.012345678",
        "cost_usd": "0.000309000",
    }


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (["tenants"], "no dimension `tenants`: choose among tenant, model"),
        (["tenant; DROP TABLE attempts"], "no dimension"),
        (["tenant", "model", "tenant"], "named twice in `tenant,model,tenant`"),
    ],
)
def test_what_cannot_be_grouped_by_is_refused(store, url, by, message):
    with pytest.raises(LedgerError, match=message):
        build(url, by=by)


def test_a_ledger_that_is_not_there_is_refused_and_not_made(tmp_path):
    with pytest.raises(LedgerError, match="ledger"):
        build(f"sqlite:///{tmp_path / 'none.db'}", by=[])
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_of_one_moment_while_others_write(store, url):
    store.write([attempt("r1")])
    before = build(url, by=["tenant"])
    store.write([attempt("r2")])
    assert before.total[1] == 1
    assert build(url, by=["tenant"]).total[1] == 2


@pytest.mark.parametrize(
    ("billionths", "written"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (-1, "-0.000000001"),
        (12_345_678_901, "12.345678901"),
        (10**27, f"{10**18}.000000000"),
    ],
)
def test_amounts_are_written_exactly(billionths, written):
    assert exact(billionths) == written
    assert Decimal(written) * 10**9 == billionths


numbers = itertools.count()
attempts = st.lists(
    st.tuples(
        st.integers(0, 12),  # which request
        st.sampled_from(["a", "b", "c"]),  # tenant
        st.sampled_from(["v", "w"]),  # worker
        st.integers(0, 3 * 24 * HOUR * 1_000).map(lambda milliseconds: NOON + milliseconds / 1_000),
        st.integers(-(10**15), 10**15),  # cost, corrections included
        st.integers(0, 10**14),  # nanoseconds of worker time
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=attempts, by=st.lists(st.sampled_from(["tenant", "worker", "day", "hour"]), unique=True))
def test_rows_are_the_sums_by_hand_and_sum_to_the_total(tmp_path, drawn, by):
    path = tmp_path / f"ledger-{next(numbers)}.db"
    store = SqliteStore(path)
    made = [
        attempt(
            f"r{which}",
            number,
            tenant=tenant,
            worker=worker,
            started_at=at,
            cost_nanousd=cost,
            gpu_seconds=nanoseconds / 10**9,
        )
        for number, (which, tenant, worker, at, cost, nanoseconds) in enumerate(drawn)
    ]
    store.write(made)
    store.close()
    report = build(f"sqlite:///{path}", by=by)

    expected = defaultdict(lambda: [0, 0, 0])
    for one, (*_, nanoseconds) in zip(made, drawn, strict=True):
        moment = datetime.fromtimestamp(one.started_at, UTC)
        day = f"{moment:%Y-%m-%d}"
        values = {"tenant": one.tenant, "worker": one.worker, "day": day, "hour": f"{day}T{moment:%H}:00Z"}
        sums = expected[tuple(values[name] for name in by)]
        sums[0] += 1
        sums[1] += nanoseconds
        sums[2] += one.cost_nanousd
    width = len(by)
    assert {row[:width]: (row[width + 1], *row[-2:]) for row in report.rows} == {
        group: (count, exact(nanoseconds), exact(cost)) for group, (count, nanoseconds, cost) in expected.items()
    }
    assert sum(row[width] for row in report.rows) == report.total[width] == len({one.request_id for one in made})
    for column in range(width + 1, width + 5):
        assert sum(row[column] for row in report.rows) == report.total[column]
    for column in (-2, -1):
        assert sum(Decimal(row[column]) for row in report.rows) == Decimal(report.total[column])
