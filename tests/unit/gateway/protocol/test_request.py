"""What the gateway reads of a request, and that nothing a client sends is worse than a refusal."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.protocol.endpoints import ENDPOINTS, Endpoint
from gateway.protocol.request import MAX_NAME_CHARS, MEDIA_BYTES, Request, read_request, worker_fields

CHAT = ENDPOINTS["/v1/chat/completions"]
EMBEDDINGS = ENDPOINTS["/v1/embeddings"]
MESSAGES = ENDPOINTS["/v1/messages"]
JSON = b"application/json"


def read(fields: dict[str, Any], endpoint: Endpoint = CHAT) -> Request:
    return read_request(endpoint, JSON, orjson.dumps(fields))


def refusal(body: bytes, endpoint: Endpoint = CHAT) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read_request(endpoint, JSON, body)
    return caught.value


def read_or_refused(endpoint: Endpoint, content_type: bytes | None, body: bytes) -> Request | None:
    try:
        return read_request(endpoint, content_type, body)
    except BadRequest:  # nothing else may come out of it
        return None


# Nothing else than a refusal

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
known = st.sampled_from(
    [
        "model",
        "stream",
        "stream_options",
        "routing",
        "user",
        "n",
        "max_tokens",
        "messages",
        "input",
        "prompt",
        "content",
    ]
)
parts = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "image_url", "input_audio", "image", "tool_result"]) | json_values,
        "image_url": json_values,
        "content": json_values | st.lists(json_values, max_size=2),
    },
)
messages = st.lists(st.fixed_dictionaries({"content": json_values | st.lists(parts | json_values)}) | json_values)


@given(
    st.sampled_from(list(ENDPOINTS.values())),
    st.dictionaries(known | st.text(max_size=5), json_values | messages, max_size=8) | json_values,
)
def test_any_json_is_read_or_refused(endpoint: Endpoint, document: object) -> None:
    request = read_or_refused(endpoint, JSON, json.dumps(document).encode())
    if request is not None:
        assert request.model
        assert request.estimated_prompt_tokens > 0
        assert request.choices >= 1
        assert request.max_output_tokens is None or request.max_output_tokens > 0
        orjson.dumps([[worker_fields(request)]])


@given(st.sampled_from(list(ENDPOINTS.values())), st.binary() | st.none(), st.binary())
def test_any_bytes_are_read_or_refused(endpoint: Endpoint, content_type: bytes | None, body: bytes) -> None:
    read_or_refused(endpoint, content_type, body)


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        (b"", None, "no body"),
        (b"{", None, "could not parse"),
        (b'{"model":"m"', None, "at character"),
        (b'{"model":"\xff"}', None, "could not parse"),
        (b'{"model":"\\ud800"}', None, "could not parse"),
        (b"NaN", None, "could not parse"),
        (b"[" * 5000, None, "could not parse"),
        (b"[]", None, "JSON object"),
        (b"null", None, "JSON object"),
        (b"{}", "model", "model parameter"),
        (b'{"model":null}', "model", "model parameter"),
        (b'{"model":""}', "model", "model parameter"),
        (b'{"model":7}', "model", "model parameter"),
        (b'{"model":"a\\u0000b"}', "model", "printable"),
        (b'{"model":"a\\nb"}', "model", "printable"),
        (b'{"model":"%b"}' % (b"m" * (MAX_NAME_CHARS + 1)), "model", "at most"),
        (b'{"model":"m","stream":"yes"}', "stream", "true or false"),
        (b'{"model":"m","stream":1}', "stream", "true or false"),
        (b'{"model":"m","stream_options":true}', "stream_options", "object"),
        (b'{"model":"m","routing":"cheap"}', "routing", "object"),
    ],
)
def test_a_refusal_names_what_is_wrong(body: bytes, param: str | None, said: str) -> None:
    error = refusal(body)
    assert error.param == param
    assert said in error.message


# What is read


def test_the_fields_the_gateway_acts_on() -> None:
    fields = {
        "model": "scribe@int8:sql",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "n": 3,
        "max_completion_tokens": 5,
        "max_tokens": 9,
        "user": "ann",
        "routing": {"optimize": "cost"},
        "temperature": 0.5,
    }
    request = read(fields)
    assert request.model == "scribe@int8:sql"
    assert (request.stream, request.wants_usage) == (True, True)
    assert (request.choices, request.max_output_tokens, request.user) == (3, 5, "ann")
    assert request.routing == {"optimize": "cost"}
    assert request.fields == {name: value for name, value in fields.items() if name != "routing"}
    assert request.content_type == JSON


@pytest.mark.parametrize("n", [3, 3.0, "3"])
def test_n_is_read_as_engines_read_it(n: object) -> None:
    assert read({"model": "m", "n": n}).choices == 3


@pytest.mark.parametrize("endpoint", [one for one in ENDPOINTS.values() if one.body == "json"])
def test_only_chat_and_completions_have_an_n(endpoint: Endpoint) -> None:
    request = read_request(endpoint, JSON, b'{"model": "m", "n": 3}')
    assert request.choices == (3 if endpoint.name in ("chat.completions", "completions") else 1)


@pytest.mark.parametrize("n", [None, 0, -1, 1.5, True, "3.5", "", "-3", "\u0663", 65_536, "65536", 1e300, []])
def test_an_odd_n_counts_as_one_and_is_the_workers_to_judge(n: object) -> None:
    request = read({"model": "m", "n": n})
    assert request.choices == 1
    assert request.fields == {"model": "m", "n": n}


@pytest.mark.parametrize("limit", [None, 0, -1, True, "5", 1.5])
def test_an_odd_output_limit_counts_as_none(limit: object) -> None:
    assert read({"model": "m", "max_tokens": limit}).max_output_tokens is None


def test_the_name_of_a_user_is_bounded() -> None:
    assert read({"model": "m", "user": "u" * 1000}).user == "u" * MAX_NAME_CHARS
    assert read({"model": "m", "user": {"id": 1}}).user == ""


def test_only_endpoints_that_stream_stream() -> None:
    assert not read({"model": "m", "stream": True}, EMBEDDINGS).stream
    assert not read({"model": "m", "stream": None}).stream


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": "yes"}])
def test_usage_is_wanted_only_when_asked_for(options: object) -> None:
    assert not read({"model": "m", "stream": True, "stream_options": options}).wants_usage


# What the worker gets


def test_a_chat_stream_always_asks_the_worker_for_usage() -> None:
    request = read({"model": "m", "stream": True, "stream_options": {"include_usage": False, "other": 1}})
    assert worker_fields(request)["stream_options"] == {"include_usage": True, "other": 1}
    assert request.fields is not None
    assert request.fields["stream_options"] == {"include_usage": False, "other": 1}


@pytest.mark.parametrize(
    ("fields", "endpoint"),
    [
        ({"model": "m", "stream": True, "stream_options": {"include_usage": True}}, CHAT),
        ({"model": "m", "stream": False}, CHAT),
        ({"model": "m", "stream": True}, MESSAGES),
        ({"model": "m", "input": "x"}, EMBEDDINGS),
    ],
)
def test_everything_else_goes_as_it_came(fields: dict[str, Any], endpoint: Endpoint) -> None:
    request = read(fields, endpoint)
    copy = worker_fields(request)
    assert copy == fields
    copy["model"] = "other"
    assert request.fields == fields


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[1,{"a":[],"b":'])
def test_what_is_nested_too_deeply_to_be_written_again_is_refused(opening: bytes) -> None:
    closing = opening.replace(b"[]", b"").translate(bytes.maketrans(b"[{", b"]}"), b':1a",b')[::-1]
    deepest = 0
    for depth in range(1, 600):
        body = b'{"model":"m","x":' + opening * depth + b"1" + closing * depth + b"}"
        request = read_or_refused(CHAT, JSON, body)
        if request is None:
            break
        orjson.dumps({"prompt": {"fields": [worker_fields(request)]}})
        deepest = depth * len(closing)
    assert 200 < deepest < 300
    assert "nested deeper" in refusal(body).message


# How large the prompt is


def test_text_counts_by_its_bytes() -> None:
    short, long = read({"model": "m", "prompt": "x" * 40}), read({"model": "m", "prompt": "x" * 440})
    assert long.estimated_prompt_tokens - short.estimated_prompt_tokens == 100


MEGABYTE = base64.b64encode(bytes(1024 * 1024)).decode()
URL = "data:image/png;base64," + MEGABYTE
MEDIA: list[dict[str, Any]] = [
    {"type": "image_url", "image_url": {"url": URL, "size": 3}},
    {"type": "input_image", "image_url": URL},
    {"type": "input_audio", "input_audio": {"data": MEGABYTE, "format": "wav"}},
    {"type": "image", "source": {"type": "base64", "data": MEGABYTE}},
    {"type": "file", "file": {"file_data": URL}},
    {"type": "tool_result", "content": [{"type": "image", "source": {"data": MEGABYTE}}]},
]


@pytest.mark.parametrize("part", MEDIA, ids=lambda part: part["type"])
@pytest.mark.parametrize("name", ["messages", "input"])
def test_an_image_or_a_recording_counts_for_a_thousand_tokens(name: str, part: dict[str, Any]) -> None:
    said = {"type": "text", "text": "what is this?"}
    request = read(
        {"model": "m", name: [{"role": "user", "content": [said, part, "odd"]}, "odd", {"content": "x" * 400}]}
    )
    assert MEDIA_BYTES // 4 < request.estimated_prompt_tokens < MEDIA_BYTES // 4 + 400


def test_long_text_beside_an_image_still_counts() -> None:
    content = [{"type": "text", "text": "x" * 400_000}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
    assert read({"model": "m", "messages": [{"content": content}]}).estimated_prompt_tokens > 100_000


def test_nesting_without_end_is_not_followed() -> None:
    content: list[Any] = [{"type": "image", "source": {"a": {"b": {"c": "x" * 100_000}}}}]
    for _ in range(5):
        content = [{"type": "tool_result", "content": content}]
    assert read({"model": "m", "messages": [{"content": content}]}).estimated_prompt_tokens > 25_000
