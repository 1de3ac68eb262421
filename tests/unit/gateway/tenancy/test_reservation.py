"""What is held for a request: enough for most answers in tokens, and for every answer in money."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.pricing import SECOND, gpu_cost, token_cost
from gateway.protocol.endpoints import ENDPOINTS
from gateway.protocol.request import MEDIA_BYTES, Request, read_request
from gateway.routing.types import Step
from gateway.table import Candidate, Model, Price
from gateway.tenancy.reservation import (
    AHEAD_NS,
    FIRST_GUESS_TOKENS,
    TEMPLATE_TOKENS,
    Lengths,
    answers,
    most_cost,
    most_prompt_tokens,
    tokens,
)
from tests.unit.gateway.routing.tables import USD, model, view

CHAT, COMPLETIONS, RESPONSES, MESSAGES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
)
PRICE = Price(input=1_000_000, cached_input=100_000, output=3_000_000)  # a nano-USD a token, 0.1 and 3
MODELS: Mapping[str, Model] = {
    "small": model("small", "a", context=1_000),
    "big": model("big", "a", context=50_000),
}


def request(path: str = CHAT, **fields: Any) -> Request:
    return read_request(ENDPOINTS[path], b"application/json", orjson.dumps({"model": "small", **fields}))


def step(name: str = "small", *, price: Price | None = PRICE, nanousd: float = 0.0, **more: Any) -> Step:
    return Step(view(serves=f"{name}@a", price=price, **more), Candidate(name, "a"), name, 0.0, 0.0, nanousd)


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content} for content in contents]


# How long answers are


def rests_at(draw: Callable[[random.Random], float], count: int = 6_000) -> float:
    """The share of further answers that are within what is expected, after some were seen."""
    chance, lengths = random.Random(5), Lengths()
    within = 0
    for seen in range(2 * count):
        length = max(1, int(draw(chance)))
        if seen >= count:
            within += length <= lengths.expected("t", "m")
        lengths.observe("t", "m", length)
    return within / count


@pytest.mark.parametrize(
    "draw",
    [
        lambda chance: chance.uniform(1, 2_000),
        lambda chance: chance.expovariate(1 / 300),
        lambda chance: chance.lognormvariate(5, 1.2),
        lambda chance: chance.gauss(5_000, 800),
        lambda chance: 20 if chance.random() < 0.7 else chance.uniform(3_000, 4_000),
    ],
    ids=["uniform", "exponential", "lognormal", "normal", "two kinds"],
)
def test_nine_of_ten_answers_are_within_what_is_expected(draw: Callable[[random.Random], float]) -> None:
    assert 0.87 < rests_at(draw) < 0.93


def test_what_is_expected_follows_a_change_within_some_dozens_of_answers() -> None:
    lengths = Lengths()
    for _ in range(40):
        lengths.observe("t", "m", 1_000)
    assert 800 < lengths.expected("t", "m") < 1_200
    for _ in range(600):
        lengths.observe("t", "m", 100)
    assert 80 < lengths.expected("t", "m") < 130


def test_a_first_guess_holds_until_an_answer_is_known_of_that_tenant_and_model() -> None:
    lengths = Lengths()
    for _ in range(100):
        lengths.observe("t", "m", 5_000)
    assert lengths.expected("t", "m") > 4_000
    assert lengths.expected("t", "other") == lengths.expected("other", "m") == FIRST_GUESS_TOKENS


@given(st.lists(st.integers(0, 10**6), max_size=200))
def test_one_answer_moves_what_is_expected_by_little(seen: list[int]) -> None:
    lengths = Lengths()
    before = lengths.expected("t", "m")
    for length in seen:
        lengths.observe("t", "m", length)
        after = lengths.expected("t", "m")
        assert after >= 1
        assert abs(after - before) <= 0.05 * max(before, 16) + 1
        before = after


# Tokens


def test_tokens_are_the_prompt_and_the_answer_expected_or_less_if_less_is_asked_for() -> None:
    prompt = request(messages=said("hi")).estimated_prompt_tokens
    assert tokens(request(messages=said("hi")), 300) == pytest.approx(prompt + 300, abs=1)
    assert tokens(request(messages=said("hi"), max_tokens=20), 300) - prompt < 30
    assert 300 <= tokens(request(messages=said("hi"), max_tokens=2_000), 300) - prompt < 310
    assert tokens(request("/v1/embeddings", input="hi"), 300) < 20


@pytest.mark.parametrize(
    ("path", "fields", "count"),
    [
        (CHAT, {"messages": []}, 1),
        (CHAT, {"messages": [], "n": 4}, 4),
        (CHAT, {"messages": [], "n": 5_000}, 5_000),
        (COMPLETIONS, {"prompt": "one"}, 1),
        (COMPLETIONS, {"prompt": ["one", "two", "three"]}, 3),
        (COMPLETIONS, {"prompt": ["one", "two"], "n": 2, "best_of": 5}, 10),
        (COMPLETIONS, {"prompt": [11, 12, 13, 14]}, 1),
        (COMPLETIONS, {"prompt": [[11, 12], [13]]}, 2),
        (COMPLETIONS, {"prompt": []}, 1),
        ("/v1/embeddings", {"input": "hi", "n": 3}, 1),
    ],
)
def test_answers_that_are_generated(path: str, fields: dict[str, Any], count: int) -> None:
    asked = request(path, max_tokens=10, **fields)
    assert answers(asked) == count
    if asked.endpoint.task == "generate":
        assert tokens(asked, 300) == asked.estimated_prompt_tokens + 10 * count
        assert most_cost(asked, [step()], MODELS) == most_prompt_tokens(asked) + 3 * 10 * count


# Money


def test_money_is_what_the_longest_answer_costs() -> None:
    asked = request(messages=said("hi"))
    assert most_cost(asked, [step()], MODELS) == most_prompt_tokens(asked) + 3 * 1_000
    assert most_cost(request(messages=said("hi"), max_tokens=7), [step()], MODELS) == most_prompt_tokens(asked) + 3 * 7


def test_of_several_workers_the_dearest_counts_with_its_own_models_context() -> None:
    """A route may go from a model of a short context to one of a long one."""
    asked = request(messages=said("hi"))
    prompt = most_prompt_tokens(asked)
    assert most_cost(asked, [step("small"), step("big")], MODELS) == prompt + 3 * 50_000
    assert most_cost(asked, [step("big"), step("small")], MODELS) == prompt + 3 * 50_000
    dear = step("small", price=Price(10**9, 0, 10**9))
    assert most_cost(asked, [step("big"), dear], MODELS) == 1_000 * (prompt + 1_000)


@pytest.mark.parametrize(
    ("path", "fields", "output"),
    [
        (CHAT, {"max_tokens": 5}, 5),
        (CHAT, {"max_completion_tokens": 5, "max_tokens": 9}, 9),
        (CHAT, {"max_output_tokens": 5}, 1_000),
        (COMPLETIONS, {"max_tokens": 5}, 5),
        (COMPLETIONS, {"max_completion_tokens": 5}, 1_000),
        (RESPONSES, {"max_output_tokens": 5}, 5),
        (RESPONSES, {"max_tokens": 5}, 1_000),
        (MESSAGES, {"max_tokens": 5}, 5),
        (MESSAGES, {"max_tokens": 10**9}, 1_000),
        (CHAT, {"max_tokens": 0}, 1_000),
        (CHAT, {"max_tokens": "5"}, 1_000),
        (CHAT, {"max_tokens": True}, 1_000),
    ],
)
def test_only_what_the_engine_will_read_bounds_an_answer(path: str, fields: dict[str, Any], output: int) -> None:
    free = step(price=Price(0, 0, 1_000_000))
    assert most_cost(request(path, **fields), [free], MODELS) == output


def test_a_cached_prompt_may_be_the_dearer_one() -> None:
    asked = request(messages=said("hi"), max_tokens=1)
    odd = Price(input=0, cached_input=2_000_000, output=0)
    assert most_cost(asked, [step(price=odd)], MODELS) == 2 * most_prompt_tokens(asked)


def test_a_worker_priced_by_its_time_gets_what_is_expected_and_a_little_ahead() -> None:
    timed = step(price=None, nanousd=123.9)
    assert most_cost(request(messages=said("hi")), [timed], MODELS) == 123 + gpu_cost(AHEAD_NS, 3_600 * USD)
    assert gpu_cost(AHEAD_NS, 3_600 * USD) == USD * AHEAD_NS // SECOND
    assert most_cost(request(messages=said("hi")), [step(price=None, gpu=None)], MODELS) == 0


def test_an_embedding_costs_its_prompt() -> None:
    asked = request("/v1/embeddings", input="hello")
    assert most_cost(asked, [step()], MODELS) == most_prompt_tokens(asked)


text = st.text(max_size=30)
plain: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | text
)
structure = st.recursive(plain, lambda each: st.lists(each, max_size=5) | st.dictionaries(text, each, max_size=5))
conversation = st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), text), max_size=6)


def in_json(value: Any) -> int:
    """Bytes of JSON as templates write it, wider than any, each run of white space one token."""
    written = json.dumps(value, ensure_ascii=False, indent=2)
    return len(re.sub(r"\n *", "\n", written).encode(errors="surrogatepass"))


@settings(max_examples=200)
@given(conversation, st.none() | structure, st.integers(0, 2_000), st.integers(1, 4), st.floats(0, 1))
def test_no_answer_costs_more_than_was_reserved(
    turns: list[tuple[str, str]], schema: Any, output: int, count: int, cached: float
) -> None:
    """Of a tokenizer at its worst, one token a byte, and a template that opens and closes each turn."""
    messages = [{"role": role, "content": content} for role, content in turns]
    asked = request(
        messages=messages, tools=[schema], n=count, **({"max_tokens": output} if 0 < output <= 1_000 else {})
    )
    prompt = sum(4 + len(role) + len(content.encode(errors="surrogatepass")) for role, content in turns)
    prompt += len("<|im_start|>assistant\n") + in_json([schema])
    most = output if 0 < output <= 1_000 else 1_000
    cost = token_cost(PRICE, prompt, int(prompt * cached), most * count)
    assert cost <= most_cost(asked, [step()], MODELS)


@given(st.dictionaries(text, structure, min_size=1, max_size=5))
def test_what_a_tool_was_called_with_is_read_again(called: dict[str, Any]) -> None:
    use = {"type": "tool_use", "id": "t", "name": "f", "input": called}
    asked = request(MESSAGES, messages=[{"role": "assistant", "content": [use]}])
    assert most_prompt_tokens(asked) >= in_json(called)


def test_what_no_model_reads_is_not_paid_for() -> None:
    """Names, switches, and the metadata that clients keep for themselves."""
    quiet = {"metadata": {"k": "v" * 500}, "user": "u" * 500, "stream": True, "stream_options": {"include_usage": True}}
    assert most_prompt_tokens(request(messages=said("hi"), **quiet)) == most_prompt_tokens(request(messages=said("hi")))
    assert most_prompt_tokens(request(messages=said("hi"))) < TEMPLATE_TOKENS + 20


def test_an_image_counts_for_what_models_make_of_it() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    counted = most_prompt_tokens(request(messages=[{"role": "user", "content": [image]}]))
    assert MEDIA_BYTES <= counted < MEDIA_BYTES + 100
    as_text = most_prompt_tokens(request(messages=said("x" * 1_000_000)))
    assert as_text >= 1_000_000


def test_token_numbers_are_tokens() -> None:
    counted = most_prompt_tokens(request(COMPLETIONS, prompt=list(range(100_000, 101_000))))
    assert 1_000 <= counted <= 1_000 + 2 * TEMPLATE_TOKENS


@pytest.mark.parametrize(
    ("path", "one", "many"), [("/v1/rerank", "query", "documents"), ("/v1/score", "text_1", "text_2")]
)
def test_what_is_compared_with_many_is_read_with_each(path: str, one: str, many: str) -> None:
    asked = request(path, **{one: "q" * 500, many: ["d" * 10] * 20})
    assert most_prompt_tokens(asked) >= 20 * (500 + 10)
    assert most_prompt_tokens(asked) < 1.2 * 20 * (500 + 10)
    pair = request(path, **{one: "q" * 500, many: "d" * 10})
    assert 510 <= most_prompt_tokens(pair) < 600


def test_a_recording_is_counted_by_its_body() -> None:
    form = (
        b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        + b"x" * 20_000
        + b"\r\n--b--\r\n"
    )
    asked = read_request(ENDPOINTS["/v1/audio/transcriptions"], b"multipart/form-data; boundary=b", form)
    assert MEDIA_BYTES <= most_prompt_tokens(asked) == asked.prompt_bytes < MEDIA_BYTES + 300
    assert answers(asked) == 1
