"""Which name of a model list is the base model's, and which are adapters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fleet.listing import NotListed, read_listing
from gateway.table import Worker

ADAPTERS = {"support", "legal"}


def worker(serves_as: str | None = None) -> Worker:
    return Worker("w", "http://w", "vllm", "chat-8b", "fp8", None, 1, 8, None, None, None, serves_as)


def document(*cards: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": card} if isinstance(card, str) else card for card in cards]}


def lora(name: str, parent: str = "base") -> dict[str, str]:
    return {"id": name, "parent": parent}


@pytest.mark.parametrize(
    ("cards", "serves_as", "expected"),
    [
        (["chat-8b@fp8"], None, "chat-8b@fp8"),
        (["chat-8b", "chat-8b@fp8"], None, "chat-8b@fp8"),
        (["other", "chat-8b"], None, "chat-8b"),
        (["/models/llama"], None, "/models/llama"),
        (["/models/llama", lora("x"), lora("y")], None, "/models/llama"),
        (["llama", "support", "chat-8b:legal"], None, "llama"),
        (["chat-8b", "mine"], "mine", "mine"),
        ([], "mine", "mine"),
    ],
)
def test_the_base_name(cards: list[Any], serves_as: str | None, expected: str) -> None:
    assert read_listing(document(*cards), worker(serves_as), ADAPTERS).base_name == expected


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        (["chat-8b"], {}),
        (["chat-8b", lora("support")], {"support": "support"}),
        (["chat-8b", "support"], {"support": "support"}),
        (["chat-8b", "somebody-elses-model"], {}),
        (["chat-8b", lora("chat-8b:support")], {"support": "chat-8b:support"}),
        (["chat-8b", lora("chat-8b@fp8:support"), lora("support")], {"support": "chat-8b@fp8:support"}),
        (["chat-8b", lora("by-hand")], {"by-hand": "by-hand"}),
        (["llama", lora("llama:legal")], {"legal": "llama:legal"}),
    ],
)
def test_the_adapters(cards: list[Any], expected: dict[str, str]) -> None:
    assert read_listing(document(*cards), worker(), ADAPTERS).adapters == expected


def test_an_ambiguous_list_says_what_to_write() -> None:
    with pytest.raises(
        NotListed, match=r"lists 2 models and none is chat-8b@fp8 or chat-8b: set `serves_as` to one of a, b"
    ):
        read_listing(document("a", "b"), worker(), ADAPTERS)


def test_a_long_list_is_not_quoted_in_full() -> None:
    with pytest.raises(NotListed) as caught:
        read_listing(document(*(f"m{i}" for i in range(500))), worker(), ADAPTERS)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "odd", [None, [], {}, {"data": None}, {"data": {}}, "text", {"data": []}, {"data": [1, {"id": 2}]}]
)
def test_what_is_no_list_is_refused(odd: object) -> None:
    with pytest.raises(NotListed):
        read_listing(odd, worker(), ADAPTERS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["data", "id", "parent", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(document=JSON)
def test_any_json_is_read_or_refused(document: object) -> None:
    try:
        listed = read_listing(document, worker(), ADAPTERS)
    except NotListed:
        return
    assert listed.base_name
    assert all(listed.adapters.values())


def test_names_that_a_gateway_has_given_are_told_apart() -> None:
    cards = ["chat-8b", lora("chat-8b:support@3f"), lora("chat-8b:gone@1"), lora("chat-8b:legal")]
    listed = read_listing(document(*cards), worker(), ADAPTERS)
    assert listed.adapters == {"legal": "chat-8b:legal"}
    assert listed.placed == {"chat-8b:support@3f": "support", "chat-8b:gone@1": "gone"}
