"""The bill against the same sums done by hand."""

import itertools
import json
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ledger.dimensions import DIMENSIONS
from gateway.ledger.money import exact
from gateway.ledger.record import Label
from gateway.ledger.report import MEASURES, build
from gateway.ledger.retention import prune
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Batch, LedgerError
from gateway.table import Price
from tests.attempts import LABEL, LINE, attempt
from tests.bills import NOBODY, nobodys, share_out

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
HOUR = 3_600
RATE = 1_100_000_000  # nano-USD an hour
ALL = ("tag:team" if name == "tag:NAME" else name for name in DIMENSIONS)
BY_ALL = tuple(ALL)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def url(path):
    return f"sqlite:///{path}"


@pytest.fixture
def store(path):
    store = SqliteStore(path)
    yield store
    store.close()


def write(store, *attempts):
    assert store.write(Batch(attempts)).refused == []


def column(report, name):
    return [row[report.columns.index(name)] for row in report.rows]


def total(report, name):
    return report.total[report.columns.index(name)]


def test_use_by_tenant(store, url):
    write(
        store,
        attempt("r1", 1, outcome="failed", final=False, output_tokens=0, cost_nanousd=5, gpu_ns=10**8, started_at=NOON),
        attempt("r1", 2, cost_nanousd=30, gpu_ns=2 * 10**8, started_at=NOON + 1),
        attempt("r2", 1, cost_nanousd=400, gpu_ns=1, started_at=NOON),
        attempt("r3", tenant="another", cost_nanousd=12_000_000_000, gpu_ns=3600 * 10**9, started_at=NOON),
    )
    report = build(url, by=["tenant"])
    assert report.columns == ("tenant", *MEASURES)
    nothing = "0.000000000"  # is billed before the worker's time is shared out
    assert report.rows == [
        ("another", 1, 1, 100, 40, 25, "3600.000000000", "12.000000000", nothing),
        ("support", 2, 3, 300, 120, 50, "0.300000001", "0.000000435", nothing),
    ]
    assert report.total == ("", 3, 4, 400, 160, 75, "3600.300000001", "12.000000435", nothing)
    assert report.notes == ("no worker's time has been shared out yet: 12.000000435 metered is not in cost_usd",)


def test_the_bill_is_what_was_shared_out_and_says_how_far(store, url, path):
    write(
        store,
        attempt("r1", cost_nanousd=400, started_at=NOON + 10),
        attempt("r2", cost_nanousd=70, started_at=NOON + 60),  # on the next window's first moment
        attempt("r3", cost_nanousd=9, started_at=NOON + 2 * HOUR),
        attempt("r4", cost_nanousd=500, worker="hosted", cost_basis="token_price", started_at=NOON + 10),
        attempt("r5", cost_nanousd=0, worker="", cost_basis="none", outcome="cached", number=0, started_at=NOON + 10),
    )
    cost = share_out(path, LINE.worker, NOON, NOON + 60, RATE, {(LINE, LABEL): 1, (nobodys("__idle__"), NOBODY): 3})
    report = build(url, by=["tenant"])
    assert column(report, "tenant") == ["support", "__idle__"]
    assert total(report, "cost_usd") == exact(cost + 500) == exact(RATE // 60 + 500)
    assert column(report, "metered_usd") == [exact(979), exact(0)]
    assert report.shared == (NOON + 60, 79)
    assert report.notes == (
        "cost_usd: workers' time is shared out through 2026-11-21T12:01:00Z, by the hour; 0.000000079 metered since is "
        "not in it yet",
    )


def test_what_is_not_yet_shared_out_is_of_the_span_and_of_each_worker(store, url, path):
    write(
        store,
        attempt("r1", worker="a", cost_nanousd=1, started_at=NOON + 600),
        attempt("r2", worker="b", cost_nanousd=10, started_at=NOON + 600),
        attempt("r3", worker="b", cost_nanousd=100, started_at=NOON + HOUR + 600),
        attempt("r4", worker="never", cost_nanousd=1000, started_at=NOON + 3 * HOUR),
    )
    for worker, end in (("a", NOON + 900), ("b", NOON + 300), ("retired", NOON - 5 * HOUR)):
        share_out(path, worker, end - 300, end, RATE, {(nobodys("__idle__", worker), NOBODY): 1})
    assert build(url, by=[]).shared == (None, 1110)  # of one worker nothing is
    assert build(url, by=[], until=NOON + 3 * HOUR).shared == (NOON + 300, 110)
    assert build(url, by=[], until=NOON + HOUR + 1).shared == (NOON + 300, 10)
    assert build(url, by=[], since=NOON + 700, until=NOON + 800).shared == (NOON + 900, 0)
    assert build(url, by=[], since=NOON + HOUR + 500, until=NOON + HOUR + 700).shared == (NOON + 300, 100)


def test_money_counts_in_the_hours_that_begin_within_a_span(store, url, path):
    write(store, attempt(started_at=NOON))
    costs = [
        share_out(path, LINE.worker, NOON + at, NOON + at + 60, RATE + at, {(LINE, LABEL): 1})
        for at in (0, HOUR - 30, HOUR + 30, 2 * HOUR)
    ]
    by_hour = build(url, by=["hour"])
    assert column(by_hour, "cost_usd") == [exact(costs[0] + costs[1]), exact(costs[2]), exact(costs[3])]
    assert total(build(url, by=[], since=NOON, until=NOON + HOUR), "cost_usd") == exact(costs[0] + costs[1])
    assert total(build(url, by=[], since=NOON + 1, until=NOON + HOUR + 1), "cost_usd") == exact(costs[2])
    assert total(build(url, by=[], since=NOON + HOUR + 1), "cost_usd") == exact(costs[3])


def test_what_clients_said(store, url, path):
    labels = [Label("auto", "ann", '{"team":"search","app":"a"}'), Label("auto", "bob"), Label("gpt-4o", "ann")]
    write(
        store,
        *(
            attempt(f"r{n}", cost_nanousd=10**n, started_at=NOON + n, **label._asdict())
            for n, label in enumerate(labels)
        ),
    )
    idle = (nobodys("__idle__"), NOBODY)
    cost = share_out(path, LINE.worker, NOON, NOON + 60, RATE, {idle: 1} | {(LINE, label): 1 for label in labels})
    by_user = build(url, by=["user"])
    assert list(zip(column(by_user, "user"), column(by_user, "metered_usd"), strict=True)) == [
        ("", exact(0)),
        ("ann", exact(101)),
        ("bob", exact(10)),
    ]
    assert total(by_user, "cost_usd") == exact(cost)
    by_team = build(url, by=["tag:team", "model_asked"])
    assert [row[:3] for row in by_team.rows] == [("", "", 0), ("", "auto", 1), ("", "gpt-4o", 1), ("search", "auto", 1)]
    assert column(build(url, by=["tag:app"]), "tag:app") == ["", "a"]


def test_the_bill_is_not_kept_by_outcome_and_that_is_said(store, url, path):
    write(store, attempt(started_at=NOON, cost_nanousd=5))
    cost = share_out(path, LINE.worker, NOON, NOON + 60, RATE, {(LINE, LABEL): 1})
    report = build(url, by=["outcome"])
    assert [(row[0], *row[-2:]) for row in report.rows] == [("", exact(0), exact(cost)), ("ok", exact(5), exact(0))]
    assert "not kept by outcome" in report.notes[-1]


def test_a_retried_request_counts_once_where_it_ended(store, url):
    write(
        store,
        attempt("r1", 1, worker="a", outcome="failed", final=False),
        attempt("r1", 2, worker="b"),
        attempt("r2", 10, worker="c"),
        attempt("r2", 9, worker="b", outcome="broken", final=False),
    )
    report = build(url, by=["worker"])
    assert [row[:3] for row in report.rows] == [("a", 0, 1), ("b", 1, 2), ("c", 1, 1)]
    assert report.total[:3] == ("", 2, 4)


def test_a_correction_is_no_request_and_its_differences_count(store, url):
    write(store, attempt(started_at=NOON + 1), attempt(correction=1, output_tokens=-5, cost_nanousd=-9, gpu_ns=0))
    for by, since in ((["tenant"], None), (["user"], None), (["tenant"], attempt().started_at - 1)):
        whole = build(url, by=by, since=since)
        assert [sum(column(whole, name)) for name in ("requests", "attempts")] in ([1, 1], [0, 0])
    assert total(build(url, by=["tenant"]), "output_tokens") == 20
    assert total(build(url, by=["user"]), "output_tokens") == 20


def test_a_span_of_time_includes_its_start_and_not_its_end(store, url):
    write(store, *(attempt(f"r{hour}", started_at=NOON + hour * HOUR) for hour in range(4)))
    report = build(url, by=["hour"], since=NOON + HOUR, until=NOON + 3 * HOUR)
    assert column(report, "hour") == ["2026-11-21T13:00Z", "2026-11-21T14:00Z"]
    assert build(url, by=[], since=NOON + 2 * HOUR).total[1] == 2
    assert build(url, by=[], until=NOON + HOUR).total[1] == 1


def test_days_are_utc_and_end_at_midnight(store, url):
    midnight = NOON + 12 * HOUR
    write(store, attempt("r1", started_at=midnight - 0.001), attempt("r2", started_at=midnight))
    assert [row[:2] for row in build(url, by=["day"]).rows] == [("2026-11-21", 1), ("2026-11-22", 1)]


def test_without_dimensions_there_is_one_row_which_is_the_total(store, url):
    assert build(url, by=[]).rows == []
    assert build(url, by=[]).total == (0, 0, 0, 0, 0, *["0.000000000"] * 3)
    write(store, attempt(cost_basis="token_price"))
    assert build(url, by=[]).rows == [build(url, by=[]).total]
    assert build(url, by=[]).total == (1, 1, 100, 40, 25, "0.012345678", "0.000309000", "0.000309000")


def test_every_dimension_can_be_asked_for(store, url):
    write(store, attempt(started_at=NOON, user="ann", tags='{"team":"search"}', cost_basis="token_price"))
    report = build(url, by=BY_ALL)
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
        "user": "ann",
        "model_asked": "auto",
        "tag:team": "search",
        "requests": 1,
        "attempts": 1,
        "prompt_tokens": 100,
        "cached_tokens": 40,
        "output_tokens": 25,
        "gpu_seconds": "0.012345678",
        "metered_usd": "0.000309000",
        "cost_usd": "0.000309000",
    }
    assert json.loads(json.dumps(report.document()))["total"]["requests"] == 1


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (["tenants"], "no dimension `tenants`: choose among tenant, key, model"),
        (["tenant; DROP TABLE attempts"], "no dimension"),
        (["tag:"], "no dimension"),
        (["tag:" + "n" * 65], "no dimension"),
        (["tenant", "model", "tenant"], "named twice in `tenant,model,tenant`"),
    ],
)
def test_what_cannot_be_grouped_by_is_refused(store, url, by, message):
    with pytest.raises(LedgerError, match=message):
        build(url, by=by)


def test_a_tag_of_any_name_is_no_sql(store, url):
    write(store, attempt(tags='{"a\'); DROP TABLE lines; --":"x"}'))
    assert column(build(url, by=["tag:a'); DROP TABLE lines; --"]), "requests") == [1]


def test_a_ledger_that_is_not_there_is_refused_and_not_made(tmp_path):
    with pytest.raises(LedgerError, match="ledger"):
        build(f"sqlite:///{tmp_path / 'none.db'}", by=[])
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_of_one_moment_while_others_write(store, url):
    write(store, attempt("r1"))
    before = build(url, by=["tenant"])
    write(store, attempt("r2"))
    assert before.total[1] == 1
    assert build(url, by=["tenant"]).total[1] == 2


def test_sums_beyond_64_bits(store, url):
    """Three hundred worker-years, in nanoseconds."""
    write(store, *(attempt(f"r{n}", started_at=NOON + n * HOUR, gpu_ns=2**62, cost_nanousd=2**62) for n in range(5)))
    assert total(build(url, by=["tenant"]), "gpu_seconds") == exact(5 * 2**62)
    assert total(build(url, by=["user"]), "metered_usd") == exact(5 * 2**62)


# A price list


PRICE = Price(input=200_000_000, cached_input=50_000_000, output=600_000_000)


def test_a_price_list_stands_beside_the_bill_with_the_difference(store, url, path):
    write(store, attempt(started_at=NOON), attempt("r2", outcome="cached", cost_basis="none", worker="", number=0))
    cost = share_out(path, LINE.worker, NOON, NOON + 60, RATE, {(LINE, LABEL): 1})
    report = build(url, by=["model"], prices={"chat-8b": PRICE})
    price = 60 * 200 + 40 * 50 + 25 * 600
    assert report.columns[-2:] == ("price_usd", "difference_usd")
    assert report.rows[0][-2:] == report.total[-2:] == (exact(price), exact(price - cost))


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["chat-8b", "chat-8b@int4", "chat-8b:sql", "chat-8b@int4:sql"], "chat-8b@int4:sql"),
        (["chat-8b", "chat-8b@int4", "chat-8b:sql"], "chat-8b:sql"),
        (["chat-8b", "chat-8b@int4", "chat-8b:other"], "chat-8b@int4"),
        (["chat-8b@fp8", "chat-8b"], "chat-8b"),
    ],
)
def test_the_most_particular_price_counts(store, url, names, named):
    write(store, attempt(adapter="sql"))
    prices = {name: Price(0, 0, 10**9 if name == named else 1) for name in names}
    assert total(build(url, by=[], prices=prices), "price_usd") == exact(25_000)


def test_what_has_no_price_is_said(store, url):
    write(store, attempt(), attempt("r2", model="other"))
    report = build(url, by=[], prices={"chat-8b": PRICE})
    assert report.notes[-1] == "no price is listed for other: their tokens count for nothing here"


# Time that has been pruned


def test_pruned_time_is_told_from_the_sums_and_said(store, url):
    write(
        store, attempt("r1", user="ann", started_at=NOON + 1), attempt("r2", user="ann", started_at=NOON + 10 * 86_400)
    )
    while prune(store, NOON + 10 * 86_400, 3 * 86_400):
        pass
    assert column(build(url, by=["tenant"]), "requests") == [2]
    by_user = build(url, by=["user"])
    assert [row[:2] for row in by_user.rows] == [("", 1), ("ann", 1)]
    assert "before 2026-11-28T12:00Z have been removed" in by_user.notes[-1]
    assert "have been removed" in build(url, by=["tenant"], since=NOON + 1).notes[-1]
    assert "removed" not in "".join(build(url, by=["tenant"], since=NOON).notes)
    assert "removed" not in "".join(build(url, by=["user"], since=NOON + 8 * 86_400).notes)


# Properties

names = itertools.count()
lines = st.builds(
    lambda tenant, worker, basis: LINE._replace(tenant=tenant, worker=worker, cost_basis=basis),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["v", "w"]),
    st.sampled_from(["gpu_time", "token_price"]),
)
labels = st.sampled_from([LABEL, Label("auto", "ann", '{"team":"x"}'), Label("gpt", "bob", '{"team":"y","z":"1"}')])
moments = st.integers(0, 3 * 24 * HOUR * 1_000).map(lambda milliseconds: NOON + milliseconds / 1_000)
attempts = st.lists(
    st.tuples(lines, labels, moments, st.integers(-(10**15), 10**15), st.integers(0, 10**14), st.integers(0, 10**6)),
    max_size=30,
)
windows = st.lists(
    st.tuples(
        st.sampled_from(["v", "w"]),
        st.integers(0, 71),  # hour
        st.integers(1, 10**12),  # rate
        st.lists(st.tuples(st.tuples(lines, labels), st.integers(1, 9)), max_size=5),
    ),
    max_size=12,
    unique_by=lambda drawn: drawn[:2],
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    attempts=attempts,
    windows=windows,
    by=st.lists(st.sampled_from(BY_ALL), unique=True, max_size=4),
    cut=st.none() | moments,
)
def test_any_grouping_sums_to_the_same_money(tmp_path, attempts, windows, by, cut):
    path = tmp_path / f"ledger-{next(names)}.db"
    url = f"sqlite:///{path}"
    store = SqliteStore(path)
    made = [
        attempt(
            f"r{n}",
            started_at=at,
            gpu_ns=busy,
            cost_nanousd=cost,
            prompt_tokens=tokens,
            **line._asdict(),
            **label._asdict(),
        )
        for n, (line, label, at, cost, busy, tokens) in enumerate(attempts)
    ]
    write(store, *made)
    store.close()
    time_cost = 0
    for worker, hour, rate, parts in windows:
        idle = ((nobodys("__idle__", worker), NOBODY), 1)
        time_cost += share_out(path, worker, NOON + hour * HOUR, NOON + hour * HOUR + 60, rate, [idle, *parts])

    prices = {"chat-8b": Price(123_456_789, 23_456_789, 987_654_321)}
    whole = build(url, by=by, prices=prices)
    width = len(by)
    for place in range(width, width + 5):
        assert sum(row[place] for row in whole.rows) == whole.total[place]
    for place in range(width + 5, len(whole.columns)):
        assert sum(Decimal(row[place]) for row in whole.rows) == Decimal(whole.total[place])
    priced = sum(one.cost_nanousd for one in made if one.line.cost_basis == "token_price")
    assert total(whole, "cost_usd") == exact(time_cost + priced)
    assert total(whole, "metered_usd") == exact(sum(one.cost_nanousd for one in made))
    assert total(whole, "price_usd") == total(build(url, by=[], prices=prices), "price_usd")
    if cut is not None:  # of two spans that follow one another each amount is in one
        halves = [build(url, by=by, until=cut), build(url, by=by, since=cut)]
        for name in MEASURES:
            assert sum(Decimal(total(half, name)) for half in halves) == Decimal(total(whole, name))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=attempts, by=st.lists(st.sampled_from(["tenant", "worker", "day", "hour", "user", "tag:team"]), unique=True)
)
def test_rows_are_the_sums_by_hand(tmp_path, drawn, by):
    path = tmp_path / f"ledger-{next(names)}.db"
    store = SqliteStore(path)
    made = [
        attempt(f"r{n}", started_at=at, gpu_ns=busy, cost_nanousd=cost, **line._asdict(), **label._asdict())
        for n, (line, label, at, cost, busy, _) in enumerate(drawn)
    ]
    write(store, *made)
    store.close()
    report = build(f"sqlite:///{path}", by=by)
    expected = defaultdict(lambda: [0, 0, 0])
    for one in made:
        moment = datetime.fromtimestamp(one.started_at, UTC)
        tags = json.loads(one.label.tags or "{}")
        values = {
            "tenant": one.line.tenant,
            "worker": one.line.worker,
            "day": f"{moment:%Y-%m-%d}",
            "hour": f"{moment:%Y-%m-%dT%H:00Z}",
            "user": one.label.user,
            "tag:team": tags.get("team", ""),
        }
        sums = expected[tuple(values[name] for name in by)]
        sums[0] += 1
        sums[1] += one.gpu_ns
        sums[2] += one.cost_nanousd
    width = len(by)
    assert {row[:width]: (row[width + 1], *row[width + 5 : width + 7]) for row in report.rows} == {
        group: (count, exact(busy), exact(cost)) for group, (count, busy, cost) in expected.items()
    }
