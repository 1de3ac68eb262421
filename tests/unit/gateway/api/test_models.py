"""/v1/models: what each tenant may ask for, as OpenAI's SDK reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from openai.types import Model as OpenAiModel

if TYPE_CHECKING:
    from tests.unit.gateway.api.conftest import Plane

CHAT = {"chat-8b", "chat-8b@fp8", "chat-8b@int4"}


def ids(plane: Plane, tenant: str) -> set[str]:
    answer = plane.ask("/v1/models", key=f"sk-{tenant}")
    assert answer.status_code == 200
    document = answer.json()
    assert document["object"] == "list"
    return {OpenAiModel.model_validate(card).id for card in document["data"]}


@pytest.mark.parametrize(
    ("tenant", "expected"),
    [
        ("everyone", CHAT | {"chat-8b:open", "embed", "embed@v", "gpt-4o-mini", "auto", "best"}),
        ("support", CHAT | {"chat-8b:support", "gpt-4o-mini", "helpdesk", "auto", "best"}),
        ("pinned", {"chat-8b@int4"}),
        ("nobody", set()),
        ("premium", CHAT | {"chat-8b:open", "embed", "embed@v", "gpt-4o-mini"}),
    ],
)
def test_each_tenant_sees_what_it_may_ask_for(plane: Plane, tenant: str, expected: set[str]) -> None:
    assert ids(plane, tenant) == expected


def test_a_key_with_a_list_of_its_own_sees_less_than_its_tenant(plane: Plane) -> None:
    digest, key = next((digest, key) for digest, key in plane.table.keys.items() if key.tenant.name == "support")
    narrow = replace(key, models=frozenset({"chat-8b:support", "embed", "best"}))
    plane.table = replace(plane.table, keys={**plane.table.keys, digest: narrow})
    assert ids(plane, "support") == {"chat-8b:support", "helpdesk", "best"}
    assert plane.ask("/v1/models/chat-8b", key="sk-support").status_code == 404


def test_what_has_no_worker_is_not_offered(plane: Plane) -> None:
    seen = ids(plane, "everyone")
    assert "unserved" not in seen
    assert "chat-8b@planned" not in seen


@pytest.mark.parametrize("name", ["chat-8b", "chat-8b@fp8", "chat-8b:open", "gpt-4o-mini", "auto", "chat-8b@int4:open"])
@pytest.mark.parametrize("encode", [str, lambda name: quote(name, safe="")], ids=["plain", "percent-encoded"])
def test_one_model_is_found_by_its_id(plane: Plane, name: str, encode: object) -> None:
    assert callable(encode)
    answer = plane.ask(f"/v1/models/{encode(name)}", key="sk-everyone")
    assert answer.status_code == 200
    assert OpenAiModel.model_validate(answer.json()).id == name


@pytest.mark.parametrize(
    "name",
    [
        "none",
        "unserved",
        "chat-8b:support",
        "chat-8b@int4:support",
        "helpdesk",
        "a/b/c",
        "",
        "chat-8b@none:open",
        "x" * 5000,
    ],
)
def test_what_a_tenant_may_not_see_does_not_exist(plane: Plane, name: str) -> None:
    answer = plane.ask(f"/v1/models/{name}", key="sk-everyone")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("model_not_found", "invalid_request_error", "model")


def test_cards_say_more_than_openai_asks(plane: Plane) -> None:
    cards = {card["id"]: card for card in plane.ask("/v1/models", key="sk-support").json()["data"]}
    assert (cards["chat-8b"]["context_window"], cards["chat-8b"]["task"]) == (8192, "generate")
    assert (cards["chat-8b@int4"]["quantization"], cards["chat-8b@int4"]["quality"]) == ("int4", 0.99)
    assert cards["helpdesk"]["target"] == "chat-8b:support"
    assert (cards["auto"]["kind"], cards["best"]["kind"]) == ("route", "alias")
    assert all(isinstance(card["created"], int) and card["created"] > 1_700_000_000 for card in cards.values())


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/chat-8b"])
@pytest.mark.parametrize("key", [None, "sk-wrong"])
def test_without_a_valid_key_nothing_is_listed(plane: Plane, path: str, key: str | None) -> None:
    answer = plane.ask(path, key=key)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_the_other_key_header_works_too(plane: Plane) -> None:
    answer = plane.ask("/v1/models", **{"x-api-key": "sk-pinned"})
    assert [card["id"] for card in answer.json()["data"]] == ["chat-8b@int4"]
