"""What runs against a budget that refuses: reserved ahead, told once it runs out, and else left alone.

The stand-in worker costs a dollar a second, so its nano-USD are nanoseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.errors import QuotaExhausted
from gateway.fleet.backend import Backend
from gateway.ledger.record import Attempt
from gateway.protocol.usage import NO_USAGE
from gateway.routing.types import Plan
from gateway.spending import EVERY_SECONDS, Spending
from gateway.table import Hedge, Price
from gateway.tenancy.limits import Headers
from gateway.tenancy.reservation import AHEAD_NS
from gateway.trace import Trace
from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.stories import Transport, backend, dispatch, exchange, replanned, trace

EVERY_NS = int(EVERY_SECONDS * 1e9)
FOREVER = 3_600.0


@dataclass
class Purse:
    """A lease of a budget that has so much; what it was asked for is kept."""

    has: int = 10**18
    reserved: int = 0
    asked: list[int] = field(default_factory=list[int])
    headers: Headers = field(default_factory=Headers)

    def extend(self, money: int) -> bool:
        self.asked.append(money)
        if money > self.has:
            return False
        self.reserved = max(self.reserved, money)
        return True

    def covers(self, money: int) -> bool:
        return self.reserved >= money

    def settle(self, tokens: int, cost: int, now: float, arrived: float) -> None:
        """Not this test's affair."""


@contextmanager
def running(
    purse: Purse, *, on: Backend | None = None, **more: Any
) -> Iterator[tuple[Spending, Trace, asyncio.Task[None]]]:
    """A request under way, watched."""
    spending = Spending()
    watched = trace(exchange(Transport()), on=on or backend(), lease=purse, **more)
    task = asyncio.create_task(asyncio.sleep(FOREVER))
    spending.watch(watched, task.cancel)
    try:
        yield spending, watched, task
    finally:
        task.cancel()
        if watched.dispatch is not None:
            watched.dispatch.close("ok", NO_USAGE)


@contextmanager
def between() -> Iterator[list[int]]:
    """The nanoseconds that the block took."""
    took: list[int] = []
    began = time.monotonic()
    yield took
    took.append(int((time.monotonic() - began) * 1e9) + 1_000)


@dialogue
async def test_a_little_is_reserved_ahead_and_more_as_it_runs() -> None:
    purse = Purse()
    with between() as took, running(purse) as (spending, watched, task):
        spending.check()
        spending.check()
        assert watched.cut is None
        assert not task.cancelling()
    first, second = purse.asked
    assert AHEAD_NS <= first <= second <= AHEAD_NS + took[0]
    assert spending.stopped == 0


@dialogue
async def test_it_is_stopped_when_no_more_is_there_and_told_why_once() -> None:
    purse = Purse(has=0, reserved=EVERY_NS - 1)
    with running(purse) as (spending, watched, task):
        spending.check()
        spending.check()
        assert task.cancelling() == 1
        assert isinstance(watched.cut, QuotaExhausted)
        assert (watched.cut.status, watched.cut.code, watched.cut.retryable) == (429, "insufficient_quota", False)
        assert "so it was stopped" in watched.cut.message
    assert len(purse.asked) == 1
    assert spending.stopped == 1


@dialogue
async def test_what_is_reserved_is_used_up_before_it_is_stopped() -> None:
    """The store may have more to give at the next check; until then what is there may be spent."""
    purse = Purse(has=0, reserved=int(FOREVER * 1e9))
    with running(purse) as (spending, watched, task):
        spending.check()
        assert (watched.cut, task.cancelling()) == (None, 0)
        purse.reserved = 0
        spending.check()
        assert task.cancelling() == 1


@dialogue
async def test_it_is_stopped_before_the_next_check_would_be_too_late() -> None:
    """Not only when the money is gone: what it costs until the next check has to be there too."""
    purse = Purse(has=0)
    on = backend()
    with running(purse, on=on) as (spending, watched, _):
        assert watched.dispatch is not None
        purse.reserved = watched.dispatch.cost_so_far(time.monotonic()) + EVERY_NS // 2
        spending.check()
        assert watched.cut is not None


@dialogue
async def test_who_has_ended_is_asked_about_no_more() -> None:
    purse = Purse(has=0)
    with running(purse) as (spending, watched, task):
        spending.forget(watched)
        spending.forget(watched)
        spending.check()
        assert (watched.cut, task.cancelling(), purse.asked) == (None, 0, [])


def _waits(watched: Trace) -> None:
    """For a worker with room."""
    watched.dispatch = None


def _not_yet_admitted(watched: Trace) -> None:
    watched.admitted = None


def _has_its_answer(watched: Trace) -> None:
    assert watched.dispatch is not None
    watched.dispatch.close("ok", NO_USAGE)


@pytest.mark.parametrize("change", [_waits, _not_yet_admitted, _has_its_answer])
@dialogue
async def test_what_costs_nothing_now_is_left_alone(change: Callable[[Trace], None]) -> None:
    purse = Purse(has=0)
    with running(purse) as (spending, watched, task):
        begun = watched.dispatch
        change(watched)
        spending.check()
        assert (watched.cut, task.cancelling(), purse.asked) == (None, 0, [])
        if begun is not None:
            begun.close("ok", NO_USAGE)


@pytest.mark.parametrize("more", [{"price": Price(10**9, 0, 10**9)}, {"gpu": None}], ids=["by the token", "free"])
@dialogue
async def test_a_worker_that_is_not_priced_by_its_time_is_left_alone(more: dict[str, Any]) -> None:
    purse = Purse(has=0)
    with running(purse, on=backend(**more)) as (spending, watched, _):
        spending.check()
        assert (watched.cut, purse.asked) == (None, [])


@dialogue
async def test_two_at_once_on_a_worker_cost_half_each() -> None:
    on = backend()
    purse = Purse()
    with between() as took, running(purse, on=on) as (spending, _, _):
        beside = [dispatch(on) for _ in range(9)]
        alone = time.monotonic()
        await asyncio.sleep(0.05)
        shared = int((time.monotonic() - alone) * 1e9)
        spending.check()
        for one in beside:
            one.close("ok", NO_USAGE)
    assert shared // 10 <= purse.asked[0] - AHEAD_NS <= took[0] - shared + shared // 10 + took[0] // 100


@dialogue
async def test_a_hedged_request_reserves_for_both_and_what_others_cost_counts() -> None:
    purse = Purse()
    with between() as took, running(purse) as (spending, watched, _):
        assert watched.admitted is not None
        route = replace(watched.admitted.plan.route, hedge=Hedge(None, 1.0, 0.1))
        watched.admitted = replanned(watched.admitted, Plan(route, "", watched.admitted.plan.steps, ()))
        watched.others = [_row(cost) for cost in (5 * 10**9, 2 * 10**9)]
        spending.check()
    (asked,) = purse.asked
    assert 0 <= asked - 7 * 10**9 - 2 * AHEAD_NS <= 2 * took[0]


def _row(cost: int) -> Attempt:
    blank: dict[str, Any] = dict.fromkeys(Attempt._fields, "")
    return Attempt(**{**blank, "cost_nanousd": cost})


@dialogue
async def test_the_process_looks_by_itself() -> None:
    purse = Purse(has=0)
    with running(purse) as (spending, watched, task):
        looking = asyncio.create_task(spending.run())
        await asyncio.wait([task])
        assert task.cancelled()
        assert watched.cut is not None
        looking.cancel()
        await asyncio.wait([looking])
