from __future__ import annotations

from typing import Any

import pytest

from tests.unit.workers.evaluation.stand_in import chat_answer, text_answer
from workers.evaluation.answers import NotAnAnswer, Written, chat, completions


def test_choices_are_in_the_order_of_their_prompts() -> None:
    body = {
        "choices": [
            {"index": 1, "text": "b", "finish_reason": "stop", "more": 1},
            {"index": 0, "text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": [None], "top_logprobs": [{}]}},
        ]
    }
    assert completions(body) == [Written("a", None, ("a",), (None,)), Written("b", "stop")]


def test_a_chat_with_and_without_log_probabilities() -> None:
    logged = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72], "top_logprobs": []}]}
    assert chat(chat_answer("Hi", logprobs=logged)) == Written("Hi", "stop", ("Hi",), (-0.5,))
    assert chat({"choices": [{"message": {"content": None, "tool_calls": []}}]}) == Written("", None)


@pytest.mark.parametrize(
    ("read", "body", "where"),
    [
        (completions, {}, "choices"),
        (completions, {"choices": []}, "choices"),
        (completions, chat_answer("Hi"), r"choices\.0\.text"),
        (chat, text_answer("Hi"), r"choices\.0\.message"),
        (chat, {"choices": [{"message": {"content": 7}}]}, r"choices\.0\.message\.content"),
    ],
)
def test_what_is_no_answer_says_where(read: Any, body: Any, where: str) -> None:
    with pytest.raises(NotAnAnswer, match=where):
        read(body)
