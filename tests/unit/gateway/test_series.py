"""What requests have in common is kept once, and never that of others."""

from __future__ import annotations

from typing import Any

from gateway.ledger.record import Line
from gateway.routing.types import Plan
from gateway.series import MOST_ENDINGS, MOST_SERIES, AllSeries, Series
from gateway.table import Candidate, Key
from gateway.telemetry import Labels, Metrics
from tests.unit.gateway.routing.tables import route, tenant

PLAN = Plan(route("direct", Candidate("chat", None)), "named by the request", (), ())
USUAL: dict[str, Any] = {
    "config": "r1",
    "key": Key("k1", b"", tenant()),
    "endpoint": "chat.completions",
    "asked": "auto",
    "plan": PLAN,
    "target": Candidate("chat", "a"),
    "worker": "w0",
    "cost_basis": "gpu_time",
}
OTHERS: dict[str, Any] = {
    "config": "r2",
    "key": Key("k2", b"", tenant()),
    "endpoint": "completions",
    "asked": "chat",
    "plan": Plan(PLAN.route, "route", (), ()),
    "target": Candidate("chat", "a", "x"),
    "worker": "w1",
    "cost_basis": "none",
}


def find(kept: AllSeries, **fields: Any) -> Series:
    return kept.find(**{**USUAL, **fields})


def test_all_that_names_it_tells_one_from_another() -> None:
    kept = AllSeries()
    first = find(kept)
    assert find(kept) is first
    others = [find(kept, **{name: other}) for name, other in OTHERS.items()]
    assert len({id(one) for one in (first, *others)}) == 1 + len(OTHERS)
    assert first.line == Line("ann", "k1", "chat.completions", "chat", "a", "", "direct", "w0", "gpu_time")
    assert first.booking.label == ("auto", "", "")
    assert first.places == (b"x-tollgate-model: chat@a", b"x-tollgate-worker: w0", b"x-tollgate-route: direct")
    assert (first.tried, first.decided) == (b'"w0","chat@a"', b'"r1","ann","k1","chat.completions"')


def test_they_are_bounded() -> None:
    kept = AllSeries()
    for number in range(MOST_SERIES + 10):
        find(kept, asked=str(number))
    assert len(kept._kept) == 10


def test_it_counts_where_its_labels_are_counted() -> None:
    metrics, one = Metrics(), find(AllSeries())
    ok, refused = (one.ending(metrics, 1, "bypass", False, status, "ok").tally for status in (200, 429))
    labels = Labels("ann", "chat", "a", "direct", "chat.completions", 200)
    assert ok is metrics.tally(labels)
    assert refused is metrics.tally(labels._replace(status=429)) is not ok


def test_endings_are_kept_apart_and_bounded() -> None:
    metrics, one = Metrics(), find(AllSeries())
    usual: tuple[Any, ...] = (1, "bypass", False, 200, "ok")
    first = one.ending(metrics, *usual)
    for at, other in enumerate((2, "hit", True, 503, "failed")):
        ending = one.ending(metrics, *usual[:at], other, *usual[at + 1 :])
        assert ending is not first
        assert (ending.asked, ending.cache, ending.stream, ending.status, ending.outcome)[at] == other
    assert one.ending(metrics, *usual) is first
    for status in range(300, 400):
        assert one.ending(metrics, 1, "bypass", False, status, "ok").status == status
    assert len(one._endings) == MOST_ENDINGS
