"""Predictions in seconds and nano-USD."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import scorers
from gateway.routing.account import Place
from gateway.routing.types import UNKNOWN, Ask, Step, Waiting, WorkerView
from gateway.table import Candidate, Price
from tests.unit.gateway.routing.tables import USD, ask, version, view

NOW = 100.0

rates = st.none() | st.floats(1e-6, 1)
views = st.builds(
    lambda **state: view(**state),
    seconds_per_prompt_token=rates,
    seconds_per_output_token=rates,
    pending_tokens=st.integers(0, 10**6),
    inflight=st.integers(0, 500),
)
asks = st.builds(
    lambda prompt, output: ask(prompt_tokens=prompt, output_tokens=output), st.integers(1, 10**6), st.integers(0, 10**5)
)


def test_the_first_token_waits_for_what_is_pending_and_for_its_own_prompt() -> None:
    assert scorers.ttft_seconds(view(pending_tokens=300, seconds_per_prompt_token=0.01), ask(), 0, NOW) == 4.0
    assert scorers.ttft_seconds(view(pending_tokens=450), ask(), 0, NOW) == pytest.approx(550 / 5_500)


def test_decoding_is_slower_in_company() -> None:
    assert scorers.decode_seconds(view(seconds_per_output_token=0.1), ask(), NOW) == pytest.approx(5.0)
    assert scorers.decode_seconds(view(seconds_per_output_token=0.1, inflight=20), ask(), NOW) == pytest.approx(5.5)
    assert scorers.decode_seconds(view(), ask(), NOW) == pytest.approx(1.0)


def test_a_worker_that_decodes_about_as_fast_as_its_kin_is_taken_to_be_like_them() -> None:
    for own, taken in ((0.04, 1.0), (0.01, 1.0), (0.06, 3.0), (0.005, 0.25)):
        assert scorers.decode_seconds(view(seconds_per_output_token=own), ask(), NOW) == pytest.approx(taken)


def test_a_longer_line_makes_own_prefill_count_for_more() -> None:
    assert scorers.others_weight(view()) == 1.0
    there = view()
    for _ in range(3):
        Place(Step(there, Candidate("chat", "a"), "chat", 0.0, 0.0, 0.0), 100, NOW)
    assert scorers.others_weight(there) == pytest.approx(1.9)


def test_company_is_whoever_is_known_to_be_there() -> None:
    request = ask(output_tokens=100)

    def seconds(**state: Any) -> float:
        return scorers.decode_seconds(view(seconds_per_output_token=0.1, **state), request, NOW)

    assert seconds(inflight=2, elsewhere_inflight=2, batch_slowdown=0.5) == pytest.approx(30.0)
    assert seconds(inflight=2, running=9, waiting=1, polled_at=NOW - 1.0, batch_slowdown=0.5) == pytest.approx(60.0)
    assert seconds(inflight=2, running=9, waiting=1, polled_at=NOW - 2.1, batch_slowdown=0.5) == pytest.approx(20.0)


def test_an_answer_is_as_long_as_they_usually_are_and_no_longer_than_asked_for() -> None:
    worker = view(seconds_per_output_token=0.1)
    assert scorers.decode_seconds(worker, ask(output_tokens=4000, usual_output_tokens=30), NOW) == pytest.approx(3.0)
    assert scorers.decode_seconds(worker, ask(output_tokens=10, usual_output_tokens=30), NOW) == pytest.approx(1.0)


IN_FRONT = {1: Waiting(20, inf)}


@pytest.mark.parametrize(
    ("state", "tokens"),
    [
        ({}, 0),
        ({"pending_tokens": 70}, 70),
        ({"waiting": 3, "polled_at": NOW - 1.0}, 300),
        (
            {"waiting": 3, "pending_tokens": 20, "prefilling": IN_FRONT, "prefill_since": NOW, "polled_at": NOW - 1.0},
            220,
        ),
        (
            {"waiting": 1, "pending_tokens": 20, "prefilling": IN_FRONT, "prefill_since": NOW, "polled_at": NOW - 1.0},
            20,
        ),
        ({"waiting": 3, "polled_at": NOW - 2.1}, 0),
        ({"waiting": UNKNOWN, "polled_at": NOW}, 0),
    ],
)
def test_what_waits_is_what_was_sent_and_what_the_engine_has_beyond_that(state: dict[str, Any], tokens: int) -> None:
    worker = view(seconds_per_prompt_token=0.01, usual_uncached_tokens=100.0, **state)
    assert scorers.queue_seconds(worker, NOW) == pytest.approx(tokens * 0.01)


@pytest.mark.parametrize(("used", "seconds"), [(UNKNOWN, 0.0), (0.0, 0.0), (0.5, 0.15), (0.9, 1.35), (1.0, 14.85)])
def test_a_full_cache_is_a_penalty_that_grows_and_stays_finite(used: float, seconds: float) -> None:
    assert scorers.kv_seconds(view(kv_usage=used, polled_at=NOW), NOW) == pytest.approx(seconds)
    assert scorers.kv_seconds(view(kv_usage=used, polled_at=NOW - 2.1), NOW) == 0.0


def test_a_price_is_worth_time_to_those_who_say_what_time_is_worth() -> None:
    assert scorers.price_seconds(2.0 * USD, None) == 0.0
    assert scorers.price_seconds(2.0 * USD, 0.5 * USD) == 4.0


def test_what_is_cached_is_cheaper_where_it_has_a_price_of_its_own() -> None:
    hosted = view(gpu=None, price=Price(input=3 * USD, cached_input=USD, output=15 * USD))
    assert scorers.nanousd(hosted, ask(), 40) == pytest.approx((60 * 3 + 40 * 1 + 50 * 15) / 1e6 * USD)


@given(views, asks, st.floats(0, 1), st.floats(0, 1e12))
def test_the_score_is_the_sum_of_its_terms(subject: WorkerView, request: Ask, cached: float, cost: float) -> None:
    tokens = int(cached * (request.prompt_tokens - 1))
    parts = scorers.terms(subject, request, tokens, cost, NOW)
    assert parts.total_seconds == pytest.approx(scorers.score_seconds(subject, request, tokens, cost, NOW))
    assert parts.total_seconds == pytest.approx(sum(parts.by_name().values()))
    assert parts.ttft_seconds == pytest.approx(scorers.ttft_seconds(subject, request, tokens, NOW))
    assert min(parts.by_name().values()) >= 0.0


@given(views, asks, st.data())
def test_what_is_cached_is_never_worse(subject: WorkerView, request: Ask, data: st.DataObject) -> None:
    tokens = data.draw(st.integers(0, request.prompt_tokens - 1))
    assert scorers.score_seconds(subject, request, tokens, 0.0, NOW) <= scorers.score_seconds(
        subject, request, 0, 0.0, NOW
    )


def test_a_hosted_worker_costs_its_token_prices() -> None:
    hosted = view(gpu=None, price=Price(input=3 * USD, cached_input=0, output=15 * USD))
    assert scorers.nanousd(hosted, ask()) == pytest.approx((100 * 3 + 50 * 15) / 1e6 * USD)


def test_an_own_worker_costs_its_hours() -> None:
    own = view(seconds_per_prompt_token=0.01, seconds_per_output_token=0.1)
    assert scorers.nanousd(own, ask()) == pytest.approx((1.0 + 5.0) * USD)
    assert scorers.nanousd(view(), ask()) == pytest.approx((100 / 5_500 + 1.0) * USD)
    assert scorers.nanousd(view(gpu=None), ask()) == 0


def test_the_price_per_million_is_of_all_tokens_of_the_request() -> None:
    hosted = view(price=Price(input=2 * USD, cached_input=0, output=2 * USD))
    assert scorers.usd_per_million_tokens(scorers.nanousd(hosted, ask()), ask()) == pytest.approx(2.0)
    nothing = ask(prompt_tokens=0, output_tokens=0)
    assert scorers.usd_per_million_tokens(scorers.nanousd(hosted, nothing), nothing) == 0


@pytest.mark.parametrize(
    ("quantization", "measured", "quality"),
    [("none", None, 1.0), ("fp8", None, 0.0), ("fp8", 0.98, 0.98), ("none", 0.5, 0.5)],
)
def test_quality_is_what_was_measured(quantization: str, measured: float | None, quality: float) -> None:
    assert scorers.quality(version("v", quantization, measured)) == quality


@given(views, asks)
def test_more_waiting_is_never_better(subject: WorkerView, request: Ask) -> None:
    first, decode = scorers.ttft_seconds(subject, request, 0, NOW), scorers.decode_seconds(subject, request, NOW)
    subject.pending_tokens += 1000
    subject.inflight += 1
    assert scorers.ttft_seconds(subject, request, 0, NOW) > first > 0
    assert scorers.decode_seconds(subject, request, NOW) >= decode >= 0
