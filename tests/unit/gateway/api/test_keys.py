"""/admin/v1/keys: made, listed, rotated, revoked; and what is refused, always in OpenAI's shape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.tenancy.keys import digest

if TYPE_CHECKING:
    from tests.unit.gateway.api.conftest import Plane

PATHS = [("GET", "/keys"), ("POST", "/keys"), ("POST", "/keys/support/k/rotate"), ("DELETE", "/keys/support/k")]


@pytest.fixture
def plane(plane_with_ledger: Any, tmp_path: Path) -> Plane:
    return plane_with_ledger(f"sqlite:///{tmp_path}/ledger.db")


def command(plane: Plane, method: str, path: str = "", body: object = None) -> tuple[int, Any]:
    answer = plane.ask(f"/admin/v1/keys{path}", method, plane.admin_key, json=body)
    return answer.status_code, answer.json()


def make(plane: Plane, **wanted: Any) -> dict[str, Any]:
    status, made = command(plane, "POST", body={"tenant": "support", **wanted})
    assert status == 201, made
    return made


def error(plane: Plane, method: str, path: str = "", body: object = None) -> tuple[int, str, str | None, str]:
    status, document = command(plane, method, path, body)
    found = document["error"]
    return status, found["code"], found["param"], found["message"]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("key", [None, "sk-everyone", "sk-wrong"])
def test_only_an_admin_key_opens_it(plane: Plane, method: str, path: str, key: str | None) -> None:
    answer = plane.ask(f"/admin/v1{path}", method, key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_without_a_configured_key_it_is_closed(plane: Plane, method: str, path: str) -> None:
    plane.without_admin_keys()
    answer = plane.ask(f"/admin/v1{path}", method, plane.admin_key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "admin_api_closed")


def test_a_made_key_is_let_in_at_once_and_its_secret_is_shown_only_then(plane: Plane) -> None:
    made = make(
        plane,
        id="ci",
        models=["chat-8b", "auto", "best"],
        endpoints=["chat.completions"],
        expires="2099-01-31",
        limits={"rpm": 5},
        priority="batch",
    )
    key = plane.keyring.keys.by_digest[digest(made["key"])]
    assert (key.id, key.tenant, key.models) == ("ci", plane.table.tenants["support"], {"chat-8b", "auto", "best"})
    assert (key.endpoints, key.limits.rpm, key.priority) == ({"chat.completions"}, 5, "batch")
    status, listed = command(plane, "GET", "?tenant=support")
    assert status == 200
    written, found = sorted(listed["keys"], key=lambda one: one["source"], reverse=True)
    assert (written["id"], written["source"], written["state"]) == ("k", "yaml", "active")
    assert found == {name: value for name, value in made.items() if name != "key"}
    assert (found["expires"], found["state"], found["source"]) == ("2099-01-31T00:00:00Z", "active", "store")
    assert made["key"] not in plane.ask("/admin/v1/keys", key=plane.admin_key).text
    assert listed["store"]["up"] is True


def test_keys_of_other_tenants_are_left_out_when_one_is_named(plane: Plane) -> None:
    make(plane)
    assert {one["tenant"] for one in command(plane, "GET")[1]["keys"]} == set(plane.table.tenants)
    assert [one["id"] for one in command(plane, "GET", "?tenant=premium")[1]["keys"]] == ["k"]


def test_rotating_with_and_without_grace(plane: Plane) -> None:
    first = make(plane)["key"]
    status, rotated = command(plane, "POST", "/support/key-1/rotate")
    assert (status, len(rotated["earlier_secrets_until"])) == (200, 1)
    known = plane.keyring.keys.by_digest
    assert {digest(first), digest(rotated["key"])} <= set(known)
    status, last = command(plane, "POST", "/support/key-1/rotate", {"grace": "0s"})
    assert (status, last["earlier_secrets_until"]) == (200, [])
    known = plane.keyring.keys.by_digest
    assert not {digest(first), digest(rotated["key"])} & set(known)
    assert digest(last["key"]) in known


def test_revoking_is_for_good_and_may_be_repeated(plane: Plane) -> None:
    key = make(plane)["key"]
    first = command(plane, "DELETE", "/support/key-1")
    assert first[0] == 200
    assert first[1]["state"] == "revoked"
    assert digest(key) not in plane.keyring.keys.by_digest
    assert command(plane, "DELETE", "/support/key-1") == first
    assert error(plane, "POST", "/support/key-1/rotate")[:2] == (409, "key_revoked")


def test_when_a_key_was_last_used_is_listed_for_those_of_the_yaml_too(plane: Plane) -> None:
    make(plane)
    used = plane.keyring.keys.used
    used["support", "key-1"], used["support", "k"] = 1_800_000_000.0, 1_800_000_060.0
    listed = command(plane, "GET", "?tenant=support")[1]["keys"]
    assert {one["id"]: one["last_used"] for one in listed} == {
        "key-1": "2027-01-15T08:00:00Z",
        "k": "2027-01-15T08:01:00Z",
    }


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "tenant", "tenant: Field required."),
        ({"tenant": "a b"}, "tenant", "cannot be a name"),
        ({"tenant": "support", "id": ""}, "id", "cannot be a name"),
        ({"tenant": "support", "colour": "red"}, "colour", "Extra inputs"),
        (
            {"tenant": "support", "models": ["chat-9b"]},
            "models",
            "no model is called `chat-9b`: did you mean `chat-8b`?",
        ),
        ({"tenant": "support", "models": "chat-8b"}, "models", "valid list"),
        ({"tenant": "support", "endpoints": ["chat"]}, "endpoints.0", "'chat.completions'"),
        ({"tenant": "support", "expires": "soon"}, "expires", "write for example `30d`"),
        ({"tenant": "support", "expires": "2020-01-01"}, "expires", "has passed"),
        ({"tenant": "support", "limits": {"rpm": 0}}, "limits.rpm", "greater than or equal to 1"),
        ({"tenant": "support", "limits": {"rpm": "5"}}, "limits.rpm", "valid integer"),
        ({"tenant": "support", "priority": "urgent"}, "priority", "'interactive', 'standard' or 'batch'"),
        (["support"], None, "a JSON object"),
    ],
)
def test_what_is_no_key_is_refused_with_its_field(plane: Plane, body: object, param: str | None, words: str) -> None:
    status, code, found, message = error(plane, "POST", body=body)
    assert (status, code, found) == (400, "invalid_request", param)
    assert words in message
    assert command(plane, "GET", "?tenant=support")[1]["keys"][1:] == []


def test_what_is_no_json_is_said_to_be_none(plane: Plane) -> None:
    answer = plane.ask(
        "/admin/v1/keys", "POST", plane.admin_key, content=b"{tenant", **{"content-type": "application/json"}
    )
    found = answer.json()["error"]
    assert (answer.status_code, found["param"]) == (400, None)
    assert found["message"].startswith("The body is not JSON: ")


@pytest.mark.parametrize(
    ("kind", "body"), [("application/x-www-form-urlencoded", b'{"tenant": "support"}'), ("application/json", b"[]")]
)
def test_what_is_no_json_object_is_told_how_to_be_one(plane: Plane, kind: str, body: bytes) -> None:
    """`curl -d` calls everything a form."""
    answer = plane.ask("/admin/v1/keys", "POST", plane.admin_key, content=body, **{"content-type": kind})
    assert answer.status_code == 400
    assert "a JSON object, sent with `content-type: application/json`" in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [rb'{"tenant": "support", "id": "\ud800"}', rb'{"tenant": "support", "\ud800": 1}'])
def test_half_a_surrogate_pair_is_refused(plane: Plane, body: bytes) -> None:
    answer = plane.ask("/admin/v1/keys", "POST", plane.admin_key, content=body, **{"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_a_tenant_that_is_not_there(plane: Plane) -> None:
    expected = (404, "tenant_not_found", "tenant", "There is no tenant `suport`: did you mean `support`?")
    assert error(plane, "POST", body={"tenant": "suport"}) == expected


def test_a_taken_id(plane: Plane) -> None:
    make(plane, id="ci")
    for key_id in ("ci", "k"):
        status, code, param, message = error(plane, "POST", body={"tenant": "support", "id": key_id})
        assert (status, code, param) == (409, "key_exists", "id")
        assert f"already has a key called {key_id}" in message


@pytest.mark.parametrize(("method", "path"), [("POST", "/support/none/rotate"), ("DELETE", "/support/none")])
def test_a_key_that_is_not_there(plane: Plane, method: str, path: str) -> None:
    assert error(plane, method, path)[:2] == (404, "key_not_found")


@pytest.mark.parametrize(("method", "path"), [("POST", "/support/k/rotate"), ("DELETE", "/support/k")])
def test_a_key_of_the_yaml(plane: Plane, method: str, path: str) -> None:
    status, code, _, message = error(plane, method, path)
    assert (status, code) == (409, "key_in_yaml")
    assert "k of support is written in the YAML and is changed there" in message


def test_a_grace_that_is_none(plane: Plane) -> None:
    make(plane)
    status, _, param, message = error(plane, "POST", "/support/key-1/rotate", {"grace": "a while"})
    assert (status, param) == (400, "grace")
    assert "write for example `30d`, `24h`" in message


def test_a_store_that_is_away_changes_nothing_and_says_why(plane: Plane, tmp_path: Path) -> None:
    make(plane)
    (tmp_path / "keys.db").write_bytes(b"no database at all, by any means" * 100)
    for method, path, body in (
        ("POST", "", {"tenant": "support"}),
        ("POST", "/support/key-1/rotate", None),
        ("DELETE", "/support/key-1", None),
    ):
        status, code, _, message = error(plane, method, path, body)
        assert (status, code) == (503, "overloaded")
        assert message.startswith("Nothing was changed: the store of keys ")
    plane.refresh()
    _, listed = command(plane, "GET", "?tenant=support")
    assert [one["id"] for one in listed["keys"]] == ["k", "key-1"]
    assert listed["store"]["up"] is False
    assert "cannot be used" in listed["store"]["error"]


def test_options_say_what_each_path_takes(plane: Plane) -> None:
    assert plane.ask("/admin/v1/keys", "OPTIONS").headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert plane.ask("/admin/v1/keys/support/k", "OPTIONS").headers["allow"] == "DELETE, OPTIONS"
