"""Each route and each model has its own."""

from __future__ import annotations

from gateway.routing.pace import FIRST_RETRIES, Pace


def test_routes_do_not_share_their_allowances() -> None:
    pace = Pace()
    retries = pace.allowances("a").retries
    assert sum(retries.take() for _ in range(100)) == FIRST_RETRIES
    assert not pace.allowances("a").retries.take()
    assert pace.allowances("b").retries.take()


def test_no_hedge_has_been_earned_at_the_start() -> None:
    hedges = Pace().allowances("a").hedges
    assert not hedges.take()
    for _ in range(20):
        hedges.deposit(0.0501)
    assert hedges.take()


def test_streams_are_not_measured_with_documents() -> None:
    pace = Pace()
    assert pace.latencies("chat", True) is pace.latencies("chat", True)
    assert pace.latencies("chat", True) is not pace.latencies("chat", False)
    assert pace.latencies("chat", True) is not pace.latencies("big", True)
