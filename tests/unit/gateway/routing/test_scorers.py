"""Predictions in seconds and nano-USD."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import scorers
from gateway.routing.types import Ask, WorkerView
from gateway.table import Price
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
    assert scorers.decode_seconds(view(seconds_per_output_token=0.1, inflight=20), ask(), NOW) == pytest.approx(10.0)
    assert scorers.decode_seconds(view(), ask(), NOW) == pytest.approx(1.0)


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
