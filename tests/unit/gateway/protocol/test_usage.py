"""Usage in every spelling, and the shortcut through large bodies against the long way."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.protocol.usage import MAX_COUNT, NO_USAGE, PARSED_WHOLE_BYTES, Usage, find_usage, read_usage

counts = (
    st.integers(-5, 50)
    | st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
    | st.just(2**70)
)
details = st.fixed_dictionaries({}, optional={"cached_tokens": counts}) | counts
usages = counts | st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": counts,
        "completion_tokens": counts,
        "input_tokens": counts,
        "output_tokens": counts,
        "total_tokens": counts,
        "prompt_tokens_details": details,
        "input_tokens_details": details,
        "cache_read_input_tokens": counts,
        "cache_creation_input_tokens": counts,
    },
)
wrapped = st.fixed_dictionaries({}, optional={"usage": usages}) | counts
documents = st.fixed_dictionaries({}, optional={"usage": usages, "response": wrapped, "message": wrapped})


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}, Usage(7, 0, 3)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(7, 4, 3)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": None}, Usage(7, 0, 3)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(7, 7, 0)),
        ({"completion_tokens": 3}, Usage(0, 0, 3)),
        ({"input_tokens": 7, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4}}, Usage(7, 4, 3)),
        ({"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 4}, Usage(11, 4, 3)),
        ({"input_tokens": 7, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2}, Usage(13, 4, 0)),
        ({"output_tokens": 3}, Usage(0, 0, 3)),
        ({"total_tokens": 12}, Usage(12, 0, 0)),
        ({"prompt_tokens": None, "completion_tokens": "3"}, NO_USAGE),
        ({"prompt_tokens": True, "completion_tokens": -1}, NO_USAGE),
        ({"prompt_tokens": MAX_COUNT, "completion_tokens": MAX_COUNT + 1}, Usage(MAX_COUNT, 0, 0)),
        ({"seconds": 3}, None),
        ({}, None),
        (None, None),
        (5, None),
    ],
)
def test_every_spelling(usage: object, expected: Usage | None) -> None:
    assert read_usage({"usage": usage}) == expected


@pytest.mark.parametrize("wrapper", ["response", "message"])
def test_events_wrap_their_usage(wrapper: str) -> None:
    usage = {"input_tokens": 2, "output_tokens": 1}
    assert read_usage({"type": "x", wrapper: {"usage": usage}}) == Usage(2, 0, 1)
    assert read_usage({"type": "x", wrapper: {"usage": None}}) is None
    assert read_usage({"type": "x", wrapper: "usage"}) is None
    assert read_usage({"usage": {"total_tokens": 9}, wrapper: {"usage": usage}}) == Usage(9, 0, 0)


@given(documents)
def test_counts_are_never_negative_and_cached_is_part_of_the_prompt(document: dict[str, Any]) -> None:
    usage = read_usage(document)
    if usage is not None:
        assert all(type(count) is int for count in usage)
        assert 0 <= usage.cached_tokens <= usage.prompt_tokens
        assert usage.output_tokens >= 0


@given(st.builds(Usage, *[st.integers(0, 9)] * 3), st.builds(Usage, *[st.integers(0, 9)] * 3))
def test_merging_keeps_the_larger_of_each(a: Usage, b: Usage) -> None:
    assert a.merge(b) == b.merge(a) == Usage(max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2]))


# The shortcut

PADDING = "x" * PARSED_WHOLE_BYTES
hostile_keys = st.sampled_from(["usage", 'say "usage', "usages", "choices", "response", "message", "\\", '"', "error"])
hostile_values = st.recursive(
    st.sampled_from(["usage", 'say "usage', '"usage":{"prompt_tokens":9}', "}", "\\", PADDING, 1, None]) | usages,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile_keys, inner, max_size=3),
    max_leaves=8,
)


def whole(body: bytes) -> Usage | None:
    document = orjson.loads(body)
    return read_usage(document) if isinstance(document, dict) else None


@given(st.dictionaries(hostile_keys, hostile_values, max_size=5) | st.lists(hostile_values, max_size=3), st.booleans())
@example({'say "usage': {"prompt_tokens": 5}, "pad": PADDING}, False)
@example({"pad": PADDING, 'say "usage': {"prompt_tokens": 5}}, False)
@example({"usage": {"prompt_tokens": 5}, "pad": PADDING, "tools": [{"usage": {"prompt_tokens": 9}}]}, True)
@example({"pad": PADDING, "usage": None, "response": {"usage": {"input_tokens": 5}}}, False)
@example({"pad": PADDING, "object": "usage"}, False)
@example([PADDING, {"usage": {"prompt_tokens": 5}}], False)
def test_the_shortcut_finds_what_parsing_all_of_it_finds(document: object, spaced: bool) -> None:
    body = json.dumps(document, allow_nan=False, indent=1 if spaced else None).encode()
    try:
        expected = whole(body)
    except orjson.JSONDecodeError:  # an integer too large for it, say
        expected = None
    assert find_usage(body) == expected


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_harmless(body: bytes, large: bool) -> None:
    body = b" " * PARSED_WHOLE_BYTES * large + body
    try:
        expected = whole(body)
    except orjson.JSONDecodeError:
        expected = None
    assert find_usage(body) == expected


@pytest.mark.parametrize("filler", [0, PARSED_WHOLE_BYTES])
def test_truncated_and_foreign_bodies_have_no_usage(filler: int) -> None:
    text = b'{"choices":"%b",' % (b"x" * filler)
    assert find_usage(text + b'"usage":{"prompt_tokens":4}}') == Usage(4, 0, 0)
    assert find_usage(text + b'"usage":{"prompt_tokens":4}') is None
    assert find_usage(text + b'"usage":') is None
    assert find_usage(b"<html>%b</html>" % text) is None
    assert find_usage(b'["usage","%b"]' % (b"x" * filler)) is None
