"""The line of a request in the log: what the library would write of all its fields."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import Overloaded, WorkerFailed
from gateway.logline import log_line
from gateway.protocol.usage import Usage
from gateway.routing.types import Plan
from gateway.series import AllSeries, Ending, Series
from gateway.table import Candidate
from gateway.telemetry import Metrics
from gateway.trace import Trace
from tests.unit.gateway.stories import Transport, backend, exchange, trace

FIELDS = (
    *("time", "level", "event", "request_id", "tenant", "key", "endpoint", "model_asked", "model", "route", "reason"),
    *("worker", "attempts", "cache", "stream", "status", "outcome", "prompt_tokens", "cached_tokens", "output_tokens"),
    *("estimated", "ttft_ms", "duration_ms", "overhead_ms", "cost_usd", "config"),
)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
seconds = st.floats(0, 1e5) | st.integers(0, 10**8).map(lambda microseconds: microseconds / 1e6)


def ended(series: Series) -> Ending:
    return series.ending(Metrics(), 1, "bypass", False, 200, "ok")


def told(change: Callable[[Trace], None] = lambda _: None, **figures: Any) -> bytes:
    """The line of a request on one worker after `change` has happened to it."""
    given_ = {
        "usage": Usage(24, 3, 16),
        "estimated": False,
        "cost": 1_500,
        "ttft": None,
        "duration": 0.5,
        "overhead": 0.000123,
        **figures,
    }

    async def run() -> bytes:
        made = trace(exchange(Transport()), on=backend(), temperature=0.5)
        assert made.dispatch is not None
        series = made.dispatch.series
        assert series is not None
        change(made)
        return log_line(made, series, ended(series), b"req_1", **given_)

    return asyncio.run(run())


def test_all_of_them_in_their_order() -> None:
    line = told()
    assert line.endswith(b"}\n")
    said = orjson.loads(line)
    assert tuple(said) == (*FIELDS, "parameters")
    assert said == {
        "time": 1_790_000_000.0,
        "level": "info",
        "event": "request",
        "request_id": "req_1",
        "tenant": "ann",
        "key": "k1",
        "endpoint": "chat.completions",
        "model_asked": "chat",
        "model": "chat@a",
        "route": "direct",
        "reason": "named by the request, least latency",
        "worker": "w0",
        "attempts": 1,
        "cache": "bypass",
        "stream": False,
        "status": 200,
        "outcome": "ok",
        "prompt_tokens": 24,
        "cached_tokens": 3,
        "output_tokens": 16,
        "estimated": False,
        "ttft_ms": None,
        "duration_ms": 500.0,
        "overhead_ms": 0.123,
        "cost_usd": 1.5e-6,
        "config": "r1",
        "parameters": {"model": "<4 chars>", "messages": "<1 items>", "temperature": 0.5},
    }


@settings(deadline=None)
@given(
    at=st.integers(0, 10**13).map(lambda milliseconds: milliseconds / 1000) | st.floats(0, 1e10),
    counts=st.tuples(*[st.integers(0, 10**12)] * 3),
    cost=st.integers(0, 10**16),
    times=st.tuples(st.none() | seconds, seconds, st.none() | seconds),
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_figures_are_spelled_as_the_library_does(
    at: float,
    counts: tuple[int, int, int],
    cost: int,
    times: tuple[float | None, float, float | None],
    flags: tuple[bool, bool],
) -> None:
    ttft, duration, overhead = times
    is_estimated, has_failed = flags

    def change(made: Trace) -> None:
        made.started_at = at
        if has_failed:
            made.error = WorkerFailed("no")

    figures = {"usage": Usage(*counts), "cost": cost, "ttft": ttft, "duration": duration, "overhead": overhead}
    line = told(change, estimated=is_estimated, **figures)
    said = orjson.loads(line)
    assert orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE) == line
    assert (said["time"], said["cost_usd"], said["estimated"]) == (at, cost / 1e9, is_estimated)
    assert [said["prompt_tokens"], said["cached_tokens"], said["output_tokens"]] == [*counts]
    assert [said["ttft_ms"], said["duration_ms"], said["overhead_ms"]] == [
        None if one is None else int(one * 1e6 + 0.5) / 1e3 for one in times
    ]
    assert ("error" in said, said["level"]) == (has_failed, "warning" if has_failed else "info")


@settings(deadline=None)
@given(asked=texts, reason=texts, target=texts, config=texts)
def test_names_are_spelled_as_the_library_does(asked: str, reason: str, target: str, config: str) -> None:
    async def run() -> bytes:
        made = trace(exchange(Transport()), on=backend())
        assert made.dispatch is not None
        assert made.dispatch.series is not None
        assert made.admitted is not None
        plan = Plan(made.admitted.plan.route, reason, (), ())
        series = Series(config, None, asked, plan, Candidate(target, None), made.dispatch.series.line)
        return log_line(made, series, ended(series), b"req_1", Usage(1, 2, 3), False, 4, None, 0.5, None)

    line = asyncio.run(run())
    said = orjson.loads(line)
    assert orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE) == line
    assert [said[name] for name in ("model_asked", "reason", "model", "config")] == [asked, reason, target, config]


def test_a_text_that_is_none_raises() -> None:
    def change(made: Trace) -> None:
        made.error = Overloaded("\ud800")

    with pytest.raises(orjson.JSONEncodeError):
        told(change)


def test_one_that_got_nowhere() -> None:
    async def run() -> bytes:
        made = Trace("req_1", exchange(Transport()), trace(exchange(Transport())).table, 0.25)
        nowhere = AllSeries().find("r1", None, "", "", None, None, "", "none")
        return log_line(made, nowhere, ended(nowhere), b"req_1", Usage(0, 0, 0), False, 0, None, 0.001, None)

    said = orjson.loads(asyncio.run(run()))
    assert tuple(said) == FIELDS
    assert {said[name] for name in ("tenant", "key", "endpoint", "model_asked", "model", "route", "worker")} == {""}
