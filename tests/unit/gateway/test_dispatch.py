"""One attempt's account: what it takes from a worker, what it gives back, and what it costs."""

from __future__ import annotations

import pytest

from gateway.ledger.record import Outcome
from gateway.protocol.usage import NO_USAGE, Usage
from gateway.routing.account import MOST_TOKENS
from gateway.table import Price
from tests.unit.gateway.stories import backend, dispatch

USAGE = Usage(100, 40, 20)


def test_opening_takes_a_place_and_closing_gives_it_back() -> None:
    worker = backend()
    one, two = dispatch(worker), dispatch(worker, prompt_tokens=7)
    assert (worker.inflight, worker.pending_tokens, worker.meter.in_flight) == (2, 107, 2)
    one.close("ok", USAGE)
    assert (worker.inflight, worker.pending_tokens, worker.meter.in_flight) == (1, 7, 1)
    two.close("aborted", NO_USAGE)
    assert (worker.inflight, worker.pending_tokens, worker.meter.in_flight) == (0, 0, 0)


def test_the_first_outcome_wins() -> None:
    worker = backend()
    attempt = dispatch(worker)
    assert attempt.close("ok", USAGE)
    cost = attempt.cost_nanousd
    assert not attempt.close("aborted", NO_USAGE)
    assert (attempt.outcome, attempt.cost_nanousd, worker.inflight) == ("ok", cost, 0)


def test_the_first_token_ends_the_wait_for_prefill() -> None:
    worker = backend()
    attempt = dispatch(worker)
    attempt.first_token()
    assert (worker.inflight, worker.pending_tokens) == (1, 0)
    assert worker.seconds_per_prompt_token is not None
    measured, first = worker.seconds_per_prompt_token, attempt.first_token_at
    attempt.first_token()
    assert (worker.seconds_per_prompt_token, attempt.first_token_at) == (measured, first)
    attempt.close("ok", USAGE)
    assert worker.pending_tokens == 0


@pytest.mark.parametrize("outcome", ["ok", "aborted", "broken"])
def test_work_that_was_done_costs_its_share_of_the_workers_time(outcome: Outcome) -> None:
    worker = backend()
    attempt = dispatch(worker)
    attempt.close(outcome, USAGE)
    assert attempt.cost_basis == "gpu_time"
    assert attempt.gpu_ns == worker.meter.busy > 0
    assert attempt.cost_nanousd == attempt.gpu_ns  # at a dollar a second a nanosecond is a nano-USD


@pytest.mark.parametrize("outcome", ["ok", "aborted", "broken"])
def test_work_that_was_done_costs_its_tokens_where_tokens_have_a_price(outcome: Outcome) -> None:
    attempt = dispatch(backend(price=Price(input=10_000_000, cached_input=1_000_000, output=100_000_000)))
    attempt.close(outcome, USAGE)
    assert (attempt.cost_basis, attempt.cost_nanousd) == ("token_price", 60 * 10 + 40 * 1 + 20 * 100)


@pytest.mark.parametrize("outcome", ["failed", "rejected"])
def test_no_work_costs_nothing(outcome: Outcome) -> None:
    worker = backend(price=Price(1_000_000, 1_000_000, 1_000_000))
    attempt = dispatch(worker)
    attempt.close(outcome, USAGE)
    assert (attempt.cost_basis, attempt.cost_nanousd, attempt.gpu_ns) == ("token_price", 0, 0)
    assert worker.meter.busy > 0  # the time was the worker's all the same


def test_a_worker_without_a_rate_costs_nothing() -> None:
    attempt = dispatch(backend(gpu=None))
    attempt.close("ok", USAGE)
    assert (attempt.cost_basis, attempt.cost_nanousd) == ("none", 0)


def test_only_whole_answers_teach_how_fast_a_worker_is() -> None:
    worker = backend()
    for outcome, usage in (("aborted", USAGE), ("broken", USAGE), ("failed", USAGE), ("ok", Usage(5, 0, 1))):
        dispatch(worker).close(outcome, usage)  # type: ignore[arg-type]
    assert worker.seconds_per_output_token is None
    dispatch(worker).close("ok", USAGE)
    first = worker.seconds_per_output_token
    assert first is not None
    dispatch(worker).close("ok", Usage(5, 0, 10**9))
    assert 0 < worker.seconds_per_output_token < first
    assert worker.decoded_tokens < MOST_TOKENS + USAGE.output_tokens  # no answer is all that counts


def test_an_estimate_of_a_stream_is_what_was_seen() -> None:
    attempt = dispatch(backend(seconds_per_prompt_token=1e-9, seconds_per_output_token=1e-9), unseen_tokens=0)
    assert attempt.estimated_usage(0, None) == Usage(100, 0, 0)
    assert attempt.estimated_usage(1, None) == Usage(100, 0, 1)
    assert attempt.estimated_usage(8, None) == Usage(100, 0, 8)


def test_an_estimate_goes_on_from_what_was_reported() -> None:
    attempt = dispatch(backend())
    assert attempt.estimated_usage(8, Usage(24, 3, 0)) == Usage(24, 3, 8)
    assert attempt.estimated_usage(8, Usage(24, 3, 9)) == Usage(24, 3, 9)


def test_an_estimate_knows_how_this_worker_counts() -> None:
    """Its tokenizer makes half as many of a prompt as bytes say; a step of its streams often brings two."""
    worker = backend()
    whole = dispatch(worker, prompt_tokens=100)
    whole.learn_stream(7, Usage(50, 0, 700))  # too short to say anything
    whole.learn_stream(20, Usage(50, 0, 30))
    whole.close("ok", Usage(50, 0, 30))
    assert dispatch(worker, prompt_tokens=200).estimated_usage(10, None) == Usage(100, 0, 15)
    assert dispatch(worker, prompt_tokens=200).estimated_usage(10, Usage(24, 3, 9)) == Usage(24, 3, 15)
    assert dispatch(worker, prompt_tokens=1, unseen_tokens=0).estimated_usage(0, None) == Usage(1, 0, 0)


def test_what_was_broken_off_teaches_nothing_of_prompts() -> None:
    worker = backend()
    dispatch(worker).close("aborted", Usage(7, 0, 1))
    dispatch(worker).close("failed", NO_USAGE)
    dispatch(worker).close("ok", NO_USAGE)  # an endpoint without usage
    assert worker.prompt_ratio is None


def test_an_estimate_of_a_document_is_what_the_time_allowed_and_the_request_asked_for() -> None:
    assert dispatch(backend()).estimated_usage(0, None) == Usage(100, 0, 0)  # nothing is known of this worker
    fast = backend(seconds_per_prompt_token=0.0, seconds_per_output_token=1e-12)
    assert dispatch(fast).estimated_usage(0, None) == Usage(100, 0, 50)
    slow = backend(seconds_per_prompt_token=1e6, seconds_per_output_token=1.0)
    assert dispatch(slow).estimated_usage(0, None) == Usage(100, 0, 0)
