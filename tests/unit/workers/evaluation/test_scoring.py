"""What two dialects tell of a prompt's tokens, read into the same positions."""

from __future__ import annotations

import pytest

from workers.evaluation.scoring import IMPOSSIBLE, from_echo, from_prompt_logprobs, number_of

WINDOW = [5, 6, 7]


def row(**logprobs: float) -> dict[str, dict[str, object]]:
    return {
        key.removeprefix("t"): {"logprob": value, "rank": 1, "decoded_token": "?"} for key, value in logprobs.items()
    }


def test_vllm_tells_by_token_id() -> None:
    told = [None, row(t6=-2.0, t9=-0.5), row(t7=-0.1, t9=-9999.0)]
    first, second = from_prompt_logprobs(WINDOW, told)
    assert (first.truth, first.told) == (-2.0, {6: -2.0, 9: -0.5})
    assert (second.truth, second.told) == (-0.1, {7: -0.1, 9: -9999.0})


def test_echo_tells_by_the_tokens_text_and_may_leave_the_true_one_out() -> None:
    told = {
        "tokens": ["a", "b", "c", "written after it"],
        "token_logprobs": [None, -2.0, float("-inf"), -0.1],
        "top_logprobs": [None, {"x": -0.5, "b": -2.0}, {"x": -0.25}, {"y": -0.1}],
    }
    first, second = from_echo(WINDOW, told)
    assert (first.truth, first.told) == (-2.0, {number_of("x"): -0.5, number_of("b"): -2.0})
    assert (second.truth, second.told) == (IMPOSSIBLE, {number_of("x"): -0.25, number_of("c"): IMPOSSIBLE})


def test_echo_with_token_ids_is_the_same_as_prompt_logprobs() -> None:
    told = {
        "tokens": ["token_id:5", "token_id:6", "token_id:7"],
        "token_logprobs": [None, -2.0, -0.1],
        "top_logprobs": [None, {"token_id:6": -2.0, "token_id:9": -0.5}, {"token_id:7": -0.1}],
    }
    assert list(from_echo(WINDOW, told)) == list(
        from_prompt_logprobs(WINDOW, [None, row(t6=-2.0, t9=-0.5), row(t7=-0.1)])
    )


def test_a_text_has_a_number_that_is_no_token_id() -> None:
    assert number_of("token_id:12") == 12
    assert number_of("a") == number_of("a") < 0
    assert number_of("a") != number_of("b")


def test_fewer_rows_than_tokens_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        list(from_prompt_logprobs(WINDOW, [None, row(t6=-2.0)]))
    with pytest.raises(LookupError):
        list(from_prompt_logprobs(WINDOW, [None, row(t9=-0.5), row(t7=-0.1)]))
    with pytest.raises(TypeError):
        list(from_prompt_logprobs(WINDOW, [None, None, row(t7=-0.1)]))
    with pytest.raises(ValueError, match="2 tokens of 3"):
        list(from_echo(WINDOW, {"tokens": ["a", "b"], "token_logprobs": [None, -1], "top_logprobs": [None, {}]}))
