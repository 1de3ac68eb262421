"""`metadata` as the ledger keeps it: what fits, in one form, whatever a client sends."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.endpoints import ENDPOINTS
from gateway.protocol.request import read_request
from gateway.protocol.tags import MOST_NAME_CHARS, MOST_TAGS, MOST_VALUE_CHARS, read_tags

CHAT = ENDPOINTS["/v1/chat/completions"]


def test_strings_are_kept_in_one_form_whatever_their_order():
    assert read_tags({"team": "search", "app": "crawler"}) == '{"app":"crawler","team":"search"}'
    assert read_tags({"app": "crawler", "team": "search"}) == read_tags({"team": "search", "app": "crawler"})


def test_names_of_a_list_become_tags_of_their_own():
    assert json.loads(read_tags({"tags": ["nightly", "eu"], "team": "search"})) == {
        "tags:nightly": "true",
        "tags:eu": "true",
        "team": "search",
    }


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        [],
        "team=search",
        17,
        {"": "nameless"},
        {"n" * (MOST_NAME_CHARS + 1): "v"},
        {"team": "v" * (MOST_VALUE_CHARS + 1)},
        {"team": 1, "nested": {"a": "b"}, "list": ["a"]},
        {"team": "a\0b"},
        {"te\0am": "a"},
        {"tags": ["", 3, None, ["x"], "a\0", "n" * MOST_NAME_CHARS]},
        {"tags": {"a": "b"}},
    ],
)
def test_what_does_not_fit_is_left_out(metadata):
    assert read_tags(metadata) == ""


def test_the_longest_that_fits():
    name, value = "n" * MOST_NAME_CHARS, "é" * MOST_VALUE_CHARS
    assert json.loads(read_tags({name: value})) == {name: value}


def test_the_first_sixteen_are_kept():
    kept = json.loads(read_tags({"bad": 1, "tags": ["a", "b"], **{f"k{i:02}": "v" for i in range(40)}}))
    assert list(kept) == sorted([*(f"k{i:02}" for i in range(MOST_TAGS - 2)), "tags:a", "tags:b"])


def test_a_request_carries_them_and_its_worker_still_gets_what_came():
    body = {"model": "m", "metadata": {"team": "search", "odd": 1}}
    request = read_request(CHAT, b"application/json", orjson.dumps(body))
    assert request.tags == '{"team":"search"}'
    assert request.fields is not None
    assert request.fields["metadata"] == body["metadata"]
    assert read_request(CHAT, b"application/json", b'{"model":"m"}').tags == ""
    assert read_request(CHAT, b"application/json", b'{"model":"m","user":"a\\u0000b"}').user == "ab"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda below: st.lists(below) | st.dictionaries(st.text() | st.just("tags"), below),
        max_leaves=60,
    )
)
def test_nothing_a_client_sends_breaks_the_bounds(metadata):
    try:
        body = orjson.dumps({"model": "m", "metadata": metadata})
    except TypeError:  # an integer beyond 64 bits: no body is made of it
        return
    text = read_request(CHAT, b"application/json", body).tags
    kept = json.loads(text) if text else {}
    assert text != "{}"
    assert len(kept) <= MOST_TAGS
    assert list(kept) == sorted(kept, key=str.encode)
    for name, value in kept.items():
        assert 0 < len(name) <= MOST_NAME_CHARS
        assert len(value) <= MOST_VALUE_CHARS
        assert "\0" not in name + value
