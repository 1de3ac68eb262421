"""Requests made from a trace: as long as recorded, and as alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.client import Target
from loadtests.prompts import Endpoint, Writer
from loadtests.trace import Call

TARGET = Target("http://127.0.0.1:9", (("authorization", "Bearer k"),))


def body(writer: Writer, call: Call) -> dict[str, Any]:
    head, _, payload = writer.request(call).partition(b"\r\n\r\n")
    assert f"content-length: {len(payload)}".encode() in head
    return json.loads(payload)


def prompt(call: Call, endpoint: Endpoint = "chat", seed: int = 0) -> list[Any]:
    """Its tokens: words, or ids."""
    said = body(Writer(TARGET, "m", endpoint=endpoint, seed=seed), call)
    return said["messages"][0]["content"].split(" ") if endpoint == "chat" else said["prompt"]


def common(one: list[Any], other: list[Any]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@given(tokens=st.integers(1, 3000), blocks=st.lists(st.integers(0, 5), max_size=6))
def test_a_prompt_is_as_long_as_recorded(endpoint: Endpoint, tokens: int, blocks: list[int]) -> None:
    assert len(prompt(Call(0.0, tokens, 1, tuple(blocks)), endpoint)) == tokens


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_equal_blocks_are_equal_text_and_different_ones_differ(endpoint: Endpoint) -> None:
    one = prompt(Call(0.0, 1500, 1, (7, 8, 9)), endpoint)
    other = prompt(Call(5.0, 1536, 1, (7, 8, 10)), endpoint)
    assert 1024 <= common(one, other) < 1030
    assert common(one, prompt(Call(0.0, 1500, 1, (6, 8, 9)), endpoint)) < 6
    assert common(one, prompt(Call(0.0, 1500, 1, (7, 8, 9)), endpoint, seed=1)) < 6


def test_a_block_that_is_cut_is_the_beginning_of_the_whole_one() -> None:
    assert common(prompt(Call(0.0, 512, 1, (7,))), prompt(Call(0.0, 100, 1, (7,)))) == 100


def test_answers_are_asked_to_be_exactly_as_long() -> None:
    said = body(Writer(TARGET, "m"), Call(0.0, 3, 42, (1,)))
    assert (said["max_tokens"], said["ignore_eos"], said["stream"]) == (42, True, True)
    assert said["stream_options"] == {"include_usage": True}
    plain = body(Writer(TARGET, "m", stream=False, exact=False, extra=(("user", "u"),)), Call(0.0, 3, 42, (1,)))
    assert set(plain) == {"model", "max_tokens", "messages", "user"}


def test_where_it_goes_and_with_which_key() -> None:
    request = Writer(TARGET, "m", endpoint="completions").request(Call(0.0, 3, 4, (1,)))
    assert request.startswith(b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:9\r\nauthorization: Bearer k\r\n")
