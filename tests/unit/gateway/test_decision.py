"""A request that is over, as it is kept and as it is shown."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, get_args

import orjson
import pytest

from gateway.decision import MOST_CANDIDATES, MOST_DROPPED, decision
from gateway.errors import GatewayError, Overloaded, WorkerRefused
from gateway.explain.record import FIRST, SCHEMA, WHY, document
from gateway.protocol.usage import Usage
from gateway.routing.types import NO_TERMS, Drop, Dropped, Plan, Step, Terms
from gateway.table import Candidate
from gateway.telemetry import Metrics
from gateway.trace import Trace
from tests.unit.gateway.stories import Transport, backend, exchange, replanned, trace

USAGE = Usage(24, 3, 16)
TERMS = Terms(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007)


def kept(change: Callable[[Trace], None] = lambda _: None, status: int = 200) -> dict[str, Any]:
    """What is shown of a request on one worker after `change` has happened to it."""

    async def run() -> bytes:
        made = trace(exchange(Transport()), on=backend())
        assert made.admitted is not None
        assert made.dispatch is not None
        made.ask, series = made.admitted.ask, made.dispatch.series
        assert series is not None
        change(made)
        if made.dispatch is not None:
            made.dispatch.close("ok", USAGE)
        ending = series.ending(Metrics(), made.asked, made.cache, False, status, "ok")
        return decision(made, series, ending, b"req_1", USAGE, False, 1_500, 0.25, 0.5)

    record = asyncio.run(run())
    assert record.startswith(FIRST % b"req_1")
    values = orjson.loads(record)
    assert orjson.dumps(values) == record
    return document(values, orjson.loads(SCHEMA))


def planned(*steps: Step, dropped: tuple[Dropped, ...] = ()) -> Callable[[Trace], None]:
    def change(made: Trace) -> None:
        assert made.admitted is not None
        plan = made.admitted.plan
        made.admitted = replanned(made.admitted, Plan(plan.route, plan.reason, steps, dropped))

    return change


def step(ttft: float = 0.01, seconds: float = 0.1, nanousd: float = 2_000.0, terms: Terms = TERMS) -> Step:
    return Step(backend(), Candidate("chat", "a"), "chat", seconds, ttft, nanousd, terms, 64)


def test_what_came_of_it() -> None:
    found = kept()
    assert found["result"] == {
        "status": 200,
        "outcome": "ok",
        "cache": "bypass",
        "ttft_seconds": 0.25,
        "duration_seconds": 0.5,
        "queued_seconds": 0.0,
        "prompt_tokens": 24,
        "cached_tokens": 3,
        "output_tokens": 16,
        "estimated": False,
        "cost_usd": 1.5e-6,
    }
    assert (found["at"], found["config"], found["error"]) == ("2026-09-21T14:13:20.000+00:00", "r1", None)
    assert found["request"]["max_output_tokens"] == found["request"]["output_tokens"]


def test_every_term_of_the_score_is_shown_under_its_own_name() -> None:
    (found,) = kept(planned(step()))["candidates"]
    assert found["terms"] == pytest.approx(TERMS.by_name())
    assert found["score_seconds"] == pytest.approx(TERMS.total_seconds)
    assert (found["worker"], found["target"], found["ttft_seconds"], found["seconds"]) == ("w0", "chat@a", 0.01, 0.1)
    assert (found["cost_usd"], found["cached_tokens"]) == (2e-6, 64)
    assert found["terms"].keys() == NO_TERMS.by_name().keys()
    assert TERMS.values() == list(TERMS.by_name().values())


def test_a_prediction_stands_beside_what_came() -> None:
    found = kept(planned(step(ttft=0.02)))
    (attempt,) = found["attempts"]
    cost = found["prediction"]["cost_usd"]
    assert (cost["predicted"], cost["realised"]) == (2e-6, attempt["cost_usd"])
    assert cost["ratio"] == pytest.approx(attempt["cost_usd"] / 2e-6)
    assert found["prediction"]["ttft_seconds"] == {"predicted": 0.02, "realised": None, "ratio": None}  # no stream


@pytest.mark.parametrize("wild", [math.inf, math.nan, 1e300])
def test_figures_beyond_all_bounds_are_kept_as_the_bound(wild: float) -> None:
    (found,) = kept(planned(step(wild, wild, wild, Terms(wild))))["candidates"]
    assert (found["ttft_seconds"], found["seconds"], found["cost_usd"]) == (1e6, 1e6, 1e6)
    assert found["terms"]["queue_seconds"] == 1e6


def test_many_candidates_are_cut_and_counted() -> None:
    dropped = tuple(Dropped(f"w{number}", "chat@a", "down") for number in range(MOST_DROPPED + 7))
    found = kept(planned(*[step()] * (MOST_CANDIDATES + 5), dropped=dropped))
    assert (len(found["candidates"]), found["more_candidates"]) == (MOST_CANDIDATES, 5)
    assert (len(found["dropped"]), found["more_dropped"]) == (MOST_DROPPED, 7)


def refused(error: GatewayError, *, planned: bool) -> Callable[[Trace], None]:
    def change(made: Trace) -> None:
        made.dispatch, made.admitted, made.error = None, None, error
        if not planned:
            made.ask = None

    return change


def test_what_a_router_left_out_stands_there_although_there_was_no_plan() -> None:
    error = Overloaded("No worker is ready.")
    error.dropped = (Dropped("w1", "chat@a", "draining"),)
    found = kept(refused(error, planned=True), status=503)
    assert found["dropped"] == [
        {"worker": "w1", "target": "chat@a", "reason": "draining", "why": "an operator drains it"}
    ]
    assert (found["candidates"], found["attempts"], found["prediction"]) == ([], [], None)
    assert found["error"] == {"code": "overloaded", "message": "No worker is ready."}


def test_one_that_no_router_saw() -> None:
    found = kept(refused(Overloaded("no"), planned=False))
    assert (found["request"]["model"], found["route"], found["dropped"]) == (None, None, [])


def test_a_workers_refusal_may_quote_the_prompt_and_is_not_kept() -> None:
    error = WorkerRefused(400, "your secret!", type="t", param="messages", code="c")
    assert kept(refused(error, planned=True))["error"] == {"code": "c", "message": None}


def test_every_reason_has_words() -> None:
    assert set(WHY) == set(get_args(Drop))
