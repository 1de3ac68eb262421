"""What makes two requests the same, and which answers may be kept."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.key import cache_key, is_deterministic

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}


def key(body: dict[str, Any], *, endpoint: str = "chat.completions", **place: str) -> bytes:
    return cache_key(place.get("scope", "t"), place.get("served", "m@v"), place.get("adapter", ""), endpoint, body)


def test_a_key_is_32_bytes() -> None:
    assert len(key(CHAT)) == 32


def test_the_order_of_fields_does_not_matter() -> None:
    assert key(CHAT) == key(dict(reversed(CHAT.items())))


@pytest.mark.parametrize(
    "extra",
    [
        {"model": "alias"},
        {"user": "u1"},
        {"safety_identifier": "s"},
        {"metadata": {"tag": "x"}},
        {"prompt_cache_key": "k"},
        {"prompt_cache_retention": "24h"},
        {"priority": 3},
        {"routing": {"optimize": "cost"}},
        {"cache_salt": "salt"},
        {"stream_options": None},
        {"stream_options": {"include_usage": True}},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_what_cannot_change_the_answer_is_not_in_the_key(extra: dict[str, Any]) -> None:
    assert key({**CHAT, **extra}) == key(CHAT)


@pytest.mark.parametrize(
    "extra",
    [
        {"stream": True},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"temperature": 0.5},
        {"seed": 1},
        {"n": 2},
        {"max_tokens": 5},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"a_field_nobody_knows": 1},
        {"messages": [{"role": "user", "content": "hi "}]},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_what_may_change_the_answer_is_in_the_key(extra: dict[str, Any]) -> None:
    assert key({**CHAT, **extra}) != key(CHAT)


@pytest.mark.parametrize("place", ["scope", "served", "adapter"])
def test_tenants_versions_and_adapters_are_kept_apart(place: str) -> None:
    assert key(CHAT, **{place: "other"}) != key(CHAT)


def test_endpoints_are_kept_apart() -> None:
    assert key(CHAT, endpoint="completions") != key(CHAT)


def test_the_responses_api_echoes_labels_so_they_are_part_of_the_answer() -> None:
    body = {"model": "chat", "input": "hi", "temperature": 0}
    assert key({**body, "metadata": {"a": "1"}}, endpoint="responses") != key(body, endpoint="responses")
    assert key({**body, "model": "alias"}, endpoint="responses") == key(body, endpoint="responses")


def test_the_parts_of_a_key_cannot_run_into_each_other() -> None:
    assert key(CHAT, scope="ab", served="c") != key(CHAT, scope="a", served="bc")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(body=st.dictionaries(st.text(max_size=6), JSON, max_size=4))
def test_the_same_json_has_the_same_key_however_it_was_written(body: dict[str, Any]) -> None:
    spaced = orjson.loads(orjson.dumps(body, option=orjson.OPT_INDENT_2))
    assert key(body) == key(spaced)


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 0},
        {"temperature": 0.0, "n": 3},
        {"seed": 7, "temperature": 1.0},
        {"seed": 0},
        {"temperature": 0, "tools": [{"type": "function", "function": {"name": "f"}}, {"name": "anthropic-style"}]},
        {"temperature": 0, "store": False, "previous_response_id": None},
    ],
)
def test_deterministic(body: dict[str, Any]) -> None:
    assert is_deterministic(body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"temperature": 0.01},
        {"temperature": False},
        {"temperature": "0"},
        {"seed": None},
        {"seed": True},
        {"seed": 1.5},
        {"temperature": 0, "store": True},
        {"temperature": 0, "background": True},
        {"temperature": 0, "previous_response_id": "resp_1"},
        {"temperature": 0, "conversation": "conv_1"},
        {"temperature": 0, "web_search_options": {"search_context_size": "low"}},
        {"temperature": 0, "tools": [{"type": "web_search"}]},
        {"temperature": 0, "tools": [{"type": ["function"]}]},
        {"temperature": 0, "tools": ["odd"]},
    ],
)
def test_not_deterministic(body: dict[str, Any]) -> None:
    assert not is_deterministic(body)
