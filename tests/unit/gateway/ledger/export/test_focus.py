"""Rows of FOCUS against what the specification asks of a Cost and Usage dataset, and against the bill."""

import itertools
import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ledger.export import focus
from gateway.ledger.record import Label
from gateway.ledger.report import build
from gateway.ledger.retention import prune
from gateway.ledger.sqlite import SqliteBooks, SqliteStore
from gateway.ledger.store import Batch
from gateway.ledger.sums import span
from tests.attempts import LABEL, LINE, attempt
from tests.bills import NOBODY, nobodys, share_out

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
HOUR = 3_600
RATE = 1_100_000_000

# Feature level Mandatory in 1.3, and whether null is allowed.
MANDATORY = {
    "BilledCost": False,
    "BillingAccountId": False,
    "BillingAccountName": True,
    "BillingCurrency": False,
    "BillingPeriodEnd": False,
    "BillingPeriodStart": False,
    "ChargeCategory": False,
    "ChargeClass": True,
    "ChargeDescription": True,
    "ChargePeriodEnd": False,
    "ChargePeriodStart": False,
    "ContractedCost": False,
    "EffectiveCost": False,
    "HostProviderName": False,
    "InvoiceIssuerName": False,
    "ListCost": False,
    "PricingQuantity": True,
    "PricingUnit": True,
    "ProviderName": False,
    "PublisherName": False,
    "ServiceCategory": False,
    "ServiceName": False,
    "ServiceProviderName": False,
}
ALLOWED = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {None, "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"Standard", "Dynamic", "Committed", "Other"},
    "BillingCurrency": {"USD"},
}
SUBCATEGORIES = {
    "AI and Machine Learning": {
        "AI Platforms",
        "Bots",
        "Generative AI",
        "Machine Learning",
        "Natural Language Processing",
        "Other (AI and Machine Learning)",
    }
}


def complaints(rows):
    """What the rules for single rows find wrong, as far as they concern a bill of use."""
    for number, row in enumerate(rows):

        def wrong(what, number=number):
            return f"row {number}: {what}"

        for name, nullable in MANDATORY.items():
            if name not in row:
                yield wrong(f"no {name}")
            elif row[name] is None and not nullable:
                yield wrong(f"{name} is null")
        for name, allowed in ALLOWED.items():
            if row[name] not in allowed:
                yield wrong(f"{name} is {row[name]}")
        if row["ServiceSubcategory"] not in SUBCATEGORIES.get(row["ServiceCategory"], ()):
            yield wrong("ServiceSubcategory is not of ServiceCategory")
        if (
            not row["BillingPeriodStart"]
            <= row["ChargePeriodStart"]
            < row["ChargePeriodEnd"]
            <= row["BillingPeriodEnd"]
        ):
            yield wrong("the charge period is not within the billing period")
        for one, other in (
            ("PricingQuantity", "PricingUnit"),
            ("ConsumedQuantity", "ConsumedUnit"),
            ("SubAccountId", "SubAccountType"),
            ("ResourceId", "ResourceType"),
            ("SkuId", "SkuMeter"),
            ("SkuPriceId", "PricingQuantity"),
            ("AllocatedMethodId", "AllocatedMethodDetails"),
        ):
            if (row[one] is None) != (row[other] is None):
                yield wrong(f"one of {one} and {other} is null")
        if row["ChargeCategory"] == "Usage" and row["ChargeClass"] is None:
            for name in ("PricingCategory", "PricingQuantity", "ConsumedQuantity", "SkuId", "SkuPriceId"):
                if row[name] is None:
                    yield wrong(f"{name} of use is null")
        if row["AllocatedMethodId"] is None:
            for name in ("AllocatedResourceId", "AllocatedResourceName", "AllocatedTags", "AllocatedMethodDetails"):
                if row[name] is not None:
                    yield wrong(f"{name} of what is not allocated")
        else:
            elements = json.loads(row["AllocatedMethodDetails"], parse_float=Decimal)["Elements"]
            if not elements or not all(0 <= element["AllocatedRatio"] <= 1 for element in elements):
                yield wrong("AllocatedRatio")
        for name in ("Tags", "AllocatedTags"):
            values = json.loads(row[name]).values() if row[name] else ()
            if not all(type(value) in (str, int, float, bool, type(None)) for value in values):
                yield wrong(f"{name} holds more than key and value")
        for unit in (row["PricingUnit"], row["ConsumedUnit"]):
            if unit not in (None, "Tokens", "Hours"):
                yield wrong(f"unit {unit}")
    for name in rows[0] if rows else ():
        if not re.fullmatch(r"(x_)?[A-Z][A-Za-z]{0,49}", name):
            yield f"column {name}"


def exported(path, since=None, until=None, now=DECEMBER + HOUR):
    with SqliteBooks(path).snapshot() as ledger:
        pruned = ledger.rows("SELECT pruned_before FROM retention")[0][0]
        hours = focus.hours(ledger, span(since, until, pruned))
        batches = list(focus.rows(ledger, hours, pruned, "tollgate", now))
    names = [column.name for column in focus.COLUMNS]
    return [dict(zip(names, row, strict=True)) for batch in batches for row in batch]


def check(path, rows):
    """What must hold of all rows: the rules, ratios that sum to 1, costs that sum to the bill."""
    assert list(complaints(rows)) == []
    ratios, costs = defaultdict(Decimal), defaultdict(Decimal)
    for row in rows:
        if row["AllocatedMethodId"]:
            (element,) = json.loads(row["AllocatedMethodDetails"], parse_float=Decimal)["Elements"]
            key = row["ChargePeriodStart"], row["ResourceId"]
            ratios[key] += element["AllocatedRatio"]
            costs[key] += row["BilledCost"]
    assert all(ratio == 1 for key, ratio in ratios.items() if costs[key])
    with SqliteBooks(path).snapshot() as ledger:
        windows = ledger.rows('SELECT worker, CAST("start" / 3600 AS INTEGER) * 3600, cost_nanousd FROM windows')
    origin = defaultdict(Decimal)
    for worker, hour, cost in windows:
        origin[hour, worker] += Decimal(cost).scaleb(-9)
    assert {key: cost for key, cost in costs.items() if cost} == {key: cost for key, cost in origin.items() if cost}
    report = build(f"sqlite:///{path}", by=[])
    for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
        assert sum(row[name] for row in rows) == Decimal(report.total[-1])


def test_an_hour_of_a_worker_is_an_origin_charge_and_its_shares_are_allocated(store, path):
    label = Label("auto", "ann", '{"team":"search","tollgate/route":"mine"}')
    store.write(Batch([attempt(started_at=NOON, **label._asdict())]))
    cost = share_out(path, LINE.worker, NOON, NOON + 60, RATE, {(LINE, label): 1, (nobodys("__idle__"), NOBODY): 3})
    rows = exported(path)
    check(path, rows)
    idle, used = rows
    assert used["BilledCost"] + idle["BilledCost"] == Decimal(cost).scaleb(-9)
    assert used["AllocatedMethodId"] == idle["AllocatedMethodId"] == focus.METHOD
    assert used["AllocatedMethodDetails"] == '{"Elements": [{"AllocatedRatio": 0.250000040909}]}'
    assert (used["AllocatedResourceId"], used["AllocatedResourceName"]) == ("support/prod", "support")
    assert json.loads(used["AllocatedTags"]) == {
        "team": "search",
        "tollgate/endpoint": "chat.completions",
        "tollgate/key": "prod",
        "tollgate/route": "cheap-first",
        "tollgate/user": "ann",
    }
    assert idle["AllocatedResourceId"] is idle["AllocatedTags"] is idle["SubAccountId"] is None
    assert idle["ChargeDescription"] == "Idle time of chat-int4-0 (chat-8b@int4)"
    assert used["ChargeDescription"] == "Use of chat-8b@int4 on chat-int4-0 by support (chat.completions)"
    assert used["PricingQuantity"] + idle["PricingQuantity"] == pytest.approx(Decimal(60) / 3600, abs=Decimal("1e-11"))
    assert (used["ConsumedQuantity"], used["x_CachedTokens"], used["x_Requests"]) == (125, 40, 1)
    assert used["BillingPeriodEnd"] == DECEMBER


def test_token_prices_are_charges_of_their_own(store, path):
    store.write(Batch([attempt(started_at=NOON, worker="hosted", cost_basis="token_price")]))
    (row,) = rows = exported(path)
    check(path, rows)
    assert row["AllocatedMethodId"] is row["AllocatedTags"] is None
    assert json.loads(row["Tags"])["tollgate/key"] == "prod"
    assert (row["BilledCost"], row["PricingQuantity"], row["PricingUnit"]) == (Decimal("0.000309"), 125, "Tokens")


def test_corrections_of_a_month_that_has_ended_are_corrections(store, path):
    hosted = {"worker": "hosted", "cost_basis": "token_price", "started_at": NOON}
    store.write(Batch([attempt(**hosted), attempt(correction=1, cost_nanousd=-9_000, output_tokens=-3, **hosted)]))
    for now, charge_class in ((DECEMBER, "Correction"), (DECEMBER - 1, None)):
        rows = exported(path, now=now)
        check(path, rows)
        assert [(row["BilledCost"], row["ChargeClass"]) for row in rows] == [
            (Decimal("0.000309"), None),
            (Decimal("-0.000009"), charge_class),
        ]


def test_what_ran_on_into_another_hour_is_used_in_one_and_billed_in_both(store, path):
    store.write(Batch([attempt(started_at=NOON + HOUR - 1)]))
    for at in (NOON + HOUR - 60, NOON + HOUR):
        share_out(path, LINE.worker, at, at + 60, RATE, {(LINE, LABEL if at > NOON + HOUR - 1 else NOBODY): 1})
    rows = exported(path)
    check(path, rows)
    assert [row["x_Requests"] for row in rows] == [0, 1, 0]


def test_what_awaits_its_sharing_out_and_what_cost_nothing_is_no_charge(store, path):
    store.write(
        Batch([attempt(started_at=NOON), attempt("r2", number=0, worker="", cost_basis="none", outcome="cached")])
    )
    assert exported(path) == []


def test_pruned_hours_are_told_by_line(store, path):
    label = Label("auto", "ann")
    store.write(
        Batch(
            [
                attempt(started_at=NOON, **label._asdict()),
                attempt("r2", started_at=NOON, worker="hosted", cost_basis="token_price"),
            ]
        )
    )
    share_out(path, LINE.worker, NOON, NOON + 60, RATE, {(LINE, label): 1, (LINE, LABEL): 1})
    before = exported(path)
    while prune(store, NOON + 10 * 86_400, 3 * 86_400):
        pass
    rows = exported(path)
    check(path, rows)
    assert (len(before), len(rows)) == (3, 2)
    assert all("user" not in (row["AllocatedTags"] or row["Tags"]) for row in rows)


def test_only_hours_that_begin_in_a_span(store, path):
    hosted = {"worker": "hosted", "cost_basis": "token_price"}
    store.write(Batch([attempt(f"r{n}", started_at=NOON + n * HOUR, **hosted) for n in range(3)]))
    assert [row["ChargePeriodStart"] for row in exported(path, NOON + 1, NOON + 2 * HOUR)] == [NOON + HOUR]


def test_a_year_ends_in_january(store, path):
    new_years_eve = datetime(2026, 12, 31, 23, tzinfo=UTC).timestamp()
    store.write(Batch([attempt(started_at=new_years_eve, worker="hosted", cost_basis="token_price")]))
    (row,) = exported(path)
    assert row["BillingPeriodEnd"] == new_years_eve + HOUR


def test_the_validator_finds_what_is_wrong(store, path):
    store.write(Batch([attempt(started_at=NOON, worker="hosted", cost_basis="token_price")]))
    (row,) = exported(path)
    for name, value in (
        ("BilledCost", None),
        ("ChargeClass", "Refund"),
        ("ServiceSubcategory", "Bot"),
        ("ChargePeriodEnd", row["ChargePeriodStart"]),
        ("PricingUnit", None),
        ("AllocatedTags", "{}"),
        ("Tags", '{"a": []}'),
        ("ConsumedUnit", "tokens"),
    ):
        assert list(complaints([row | {name: value}])), name
    assert list(complaints([{**row, "snake_case": 1}]))


names = itertools.count()
lines = st.builds(
    lambda tenant, worker, basis: LINE._replace(tenant=tenant, worker=worker, cost_basis=basis),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["v", "w"]),
    st.sampled_from(["gpu_time", "token_price"]),
)
labels = st.sampled_from([LABEL, Label("auto", "ann", '{"team":"x"}'), Label("auto", "ann", '{"team":"y"}')])
moments = st.integers(0, 5 * HOUR * 1_000).map(lambda milliseconds: NOON + milliseconds / 1_000)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    attempts=st.lists(st.tuples(lines, labels, moments, st.integers(-(10**12), 10**12)), max_size=20),
    windows=st.lists(
        st.tuples(
            st.sampled_from(["v", "w"]),
            st.integers(0, 4),
            st.integers(0, 59),
            st.integers(1, 10**12),
            st.lists(st.tuples(st.sampled_from(["a", "b"]), labels, st.integers(1, 9)), max_size=4),
        ),
        max_size=8,
        unique_by=lambda drawn: drawn[:3],
    ),
)
def test_billed_cost_sums_to_every_origin_charge_and_to_the_bill(tmp_path, attempts, windows):
    path = tmp_path / f"ledger-{next(names)}.db"
    store = SqliteStore(path)
    store.write(
        Batch(
            [
                attempt(f"r{n}", started_at=at, cost_nanousd=cost, **line._asdict(), **label._asdict())
                for n, (line, label, at, cost) in enumerate(attempts)
            ]
        )
    )
    store.close()
    for worker, hour, minute, rate, parts in windows:
        start = NOON + hour * HOUR + minute * 60
        idle = ((nobodys("__idle__", worker), NOBODY), 1)
        used = [((LINE._replace(tenant=tenant, worker=worker), label), weight) for tenant, label, weight in parts]
        share_out(path, worker, start, start + 60, rate, [idle, *used])
    check(path, exported(path))
