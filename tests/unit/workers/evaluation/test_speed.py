"""Speed out of streams: what a token is, and what is between two of them."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.evaluation.speed import Answered, prompts, read_stream, summary


def event(**fields: object) -> str:
    return "data: " + json.dumps({"choices": [{"text": "a"}]} | fields)


def test_a_stream_has_a_first_and_a_last_token() -> None:
    lines = [
        (0.5, event()),
        (0.6, ": keep-alive"),
        (0.75, event()),
        (1.0, event()),
        (1.1, event(choices=[], usage={"completion_tokens": 4})),
        (1.1, "data: [DONE]"),
    ]
    assert read_stream(lines) == Answered(tokens=4, first=0.5, last=1.0)


def test_without_usage_every_event_is_a_token() -> None:
    assert read_stream([(0.5, event()), (1.0, event()), (1.0, "data: [DONE]")]).tokens == 2


def test_a_broken_stream_is_no_answer() -> None:
    with pytest.raises(ValueError, match="no token"):
        read_stream([(0.1, "data: [DONE]")])
    with pytest.raises(ValueError, match="broke"):
        read_stream([(0.1, event(error={"message": "gone"}))])


def test_a_batch_is_summed_up() -> None:
    answered = [Answered(10, first / 1000, first / 1000 + 0.18) for first in range(1, 21)]
    found = summary(4, answered, 2.0)
    assert (found.batch, found.requests_per_second, found.output_tokens_per_second) == (4, 10.0, 100.0)
    assert found.ttft_p50_ms == pytest.approx(10.5)
    assert found.ttft_p95_ms == pytest.approx(20.0)
    assert found.inter_token_p50_ms == pytest.approx(20.0)
    assert summary(1, [Answered(1, 0.1, 0.1)], 1.0).inter_token_p50_ms == 0.0


@given(
    st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=40), min_size=1, max_size=5),
    st.integers(1, 64),
    st.integers(1, 30),
    st.integers(),
)
def test_prompts_have_one_length_and_as_many_beginnings_as_there_are(
    windows: list[list[int]], tokens: int, count: int, seed: int
) -> None:
    found = prompts(windows, tokens, count, Random(seed))
    assert [len(prompt) for prompt in found] == [tokens] * count
    vocabulary = {token for window in windows for token in window}
    assert len({prompt[0] for prompt in found}) == min(count, len(vocabulary))
