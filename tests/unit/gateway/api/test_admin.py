"""The operator's API: closed without a key, and what it shows and does with one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Problem, WatchState
from gateway.engines.load import Load
from gateway.ledger.record import Attempt
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Batch
from gateway.routing.prefix import BLOCK_TOKENS, BLOCKS_PER_WORKER, PrefixIndex
from gateway.state.drains import MOST_DRAINED
from tests.attempts import attempt
from tests.unit.gateway.api.conftest import Plane

PATHS = [
    ("GET", "/workers"),
    ("GET", "/config"),
    ("GET", "/routes"),
    ("GET", "/usage"),
    ("GET", "/decisions/req_0000000000000000000000000000"),
    ("GET", "/explain?model=chat-8b&tenant=support&prompt_tokens=5"),
    ("POST", "/workers/e/drain"),
    ("POST", "/workers/e/undrain"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("key", [None, "sk-everyone", "sk-wrong"])
def test_only_an_admin_key_opens_it(plane: Plane, method: str, path: str, key: str | None) -> None:
    answer = plane.ask(f"/admin/v1{path}", method, key)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert not any(backend.draining for backend in plane.fleet.backends())


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_without_a_configured_key_it_is_closed_and_says_how_to_open_it(plane: Plane, method: str, path: str) -> None:
    plane.without_admin_keys()
    answer = plane.ask(f"/admin/v1{path}", method, plane.admin_key)
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert error["code"] == "admin_api_closed"
    assert "admin: {keys:" in error["message"]


def test_workers(plane: Plane) -> None:
    plane.up("chat-fp8-0")
    first, second, _ = plane.admin("/workers")["workers"]
    assert (first["name"], first["model"], first["version"], first["up"], first["why_down"]) == (
        "chat-fp8-0",
        "chat-8b",
        "fp8",
        True,
        None,
    )
    assert (second["up"], second["why_down"], second["gpu"], second["in_flight"]) == (
        False,
        "not probed yet",
        "l40s",
        0,
    )


def test_what_a_worker_is_taken_to_have_cached(plane: Plane) -> None:
    plane.up("chat-fp8-0")
    (backend, *_) = plane.fleet.backends()
    assert plane.admin("/workers")["workers"][0]["prefix_cache"] is None
    backend.prefixes = PrefixIndex().enrol()
    backend.prefixes.insert([1, 2, 3], 0)
    backend.polled(Load(running=1), 1.0)
    shown = plane.admin("/workers")["workers"][0]["prefix_cache"]
    assert shown == {
        "cache_tokens": None,
        "blocks": 3,
        "most_blocks": BLOCKS_PER_WORKER,
        "block_tokens": BLOCK_TOKENS,
        "reuse": 1.0,
    }
    backend.polled(Load(cache_tokens=200 * BLOCK_TOKENS), 2.0)
    shown = plane.admin("/workers")["workers"][0]["prefix_cache"]
    assert (shown["cache_tokens"], shown["most_blocks"]) == (200 * BLOCK_TOKENS, 200)


def test_no_workers_key_is_ever_shown(plane: Plane) -> None:
    assert "sk-worker" not in plane.ask("/admin/v1/workers", key=plane.admin_key).text


def test_draining_and_undraining(plane: Plane) -> None:
    assert plane.admin("/workers/e/drain", "POST")["draining"] is True
    assert [w["draining"] for w in plane.admin("/workers")["workers"]] == [False, False, True]
    assert plane.admin("/workers/e/undrain", "POST")["draining"] is False


def test_one_that_is_drained_and_gone_is_listed_and_can_be_undrained(plane: Plane) -> None:
    plane.fleet.keep_drained(["e", "gone"])
    assert plane.admin("/workers")["drained_absent"] == ["gone"]
    assert plane.admin("/workers/gone/undrain", "POST") == {"name": "gone", "draining": False, "shared": True}
    assert plane.admin("/workers")["drained_absent"] == []
    assert plane.ask("/admin/v1/workers/gone/undrain", "POST", plane.admin_key).status_code == 404


def test_more_drained_than_are_kept_are_refused(plane: Plane) -> None:
    plane.fleet.keep_drained([f"gone-{number}" for number in range(MOST_DRAINED)])
    answer = plane.ask("/admin/v1/workers/e/drain", "POST", plane.admin_key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "too_many_drained")
    assert "drained_absent" in answer.json()["error"]["message"]
    plane.admin("/workers/gone-7/undrain", "POST")
    assert plane.admin("/workers/e/drain", "POST")["draining"] is True


def test_it_says_whose_view_it_is(plane: Plane) -> None:
    shown = plane.admin("/workers")
    assert (shown["process"], shown["processes"]) == (os.getpid(), 1)


def test_draining_nobody(plane: Plane) -> None:
    answer = plane.ask("/admin/v1/workers/none/drain", "POST", plane.admin_key)
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "worker_not_found"
    assert "chat-fp8-0" in error["message"]


def test_a_valid_configuration(plane: Plane) -> None:
    config = plane.admin("/config")
    assert (config["revision"], config["valid"], config["errors"]) == ("abc123", True, [])
    assert config["loaded_at"] == "2026-01-01T00:00:00+00:00"


def test_an_invalid_configuration_says_what_is_wrong_where(plane: Plane) -> None:
    plane.watcher.state = WatchState(
        revision="abc123",
        loaded_at=0.0,
        failures=2,
        last_error=(Problem("routes.yaml", 7, "`minimise` is no key: did you mean `minimize`?"),),
        last_error_at=60.0,
        needs_restart=("server",),
    )
    config = plane.admin("/config")
    assert (config["valid"], config["failures"], config["last_error_at"]) == (False, 2, "1970-01-01T00:01:00+00:00")
    assert config["errors"] == [
        {
            "file": "routes.yaml",
            "line": 7,
            "severity": "error",
            "message": "`minimise` is no key: did you mean `minimize`?",
        }
    ]
    assert config["needs_restart"] == ["server"]


def test_routes(plane: Plane) -> None:
    (route,) = plane.admin("/routes")["routes"]
    assert route["match"] == {"model": ["auto"], "tier": ["standard"], "max_prompt_tokens": 8000}
    assert route["candidates"] == ["chat-8b@int4", "chat-8b:open"]
    assert (route["minimize"], route["subject_to"]["ttft_p95"]) == ("cost", 0.8)


def billed_attempt(number: int, tenant: str, started_at: float) -> Attempt:
    return attempt(f"req_{number}", tenant=tenant, started_at=started_at, cost_nanousd=1_500)


@pytest.fixture
def billed(tmp_path: Path, plane_with_ledger: Callable[[str], Plane]) -> Plane:
    path = tmp_path / "ledger.db"
    store = SqliteStore(path)
    store.write(
        Batch(
            [
                billed_attempt(1, "a", 86_400.0),
                billed_attempt(2, "a", 2 * 86_400.0),
                billed_attempt(3, "b", 2 * 86_400.0),
            ]
        )
    )
    store.close()
    return plane_with_ledger(f"sqlite:///{path}")


def test_usage_by_tenant(billed: Plane) -> None:
    usage = billed.admin("/usage")
    assert usage["by"] == ["tenant"]
    assert [(row["tenant"], row["requests"], row["metered_usd"]) for row in usage["rows"]] == [
        ("a", 2, "0.000003000"),
        ("b", 1, "0.000001500"),
    ]
    assert usage["total"]["metered_usd"] == usage["unshared_usd"] == "0.000004500"
    assert usage["shared_through"] is None
    assert "0.000004500 metered is not in cost_usd" in usage["notes"][0]


def test_usage_beside_a_price_list(billed: Plane) -> None:
    usage = billed.admin("/usage?by=tag:team,user&prices=true")
    assert usage["by"] == ["tag:team", "user"]
    assert usage["total"]["price_usd"] == "0.000000000"
    assert usage["notes"][-1].startswith("no price is listed for chat-8b")


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        ("by=model", 3),
        ("by=tenant,worker&from=1970-01-03", 2),
        ("by=&to=1970-01-03", 1),
        ("from=1970-01-03T00:00:00Z&to=172801", 2),
        ("from=1970-01-04", 0),
    ],
)
def test_usage_of_a_span(billed: Plane, query: str, requests: int) -> None:
    assert billed.admin(f"/usage?{query}")["total"]["requests"] == requests


@pytest.mark.parametrize(
    ("query", "param"),
    [("by=prompt", "by"), ("from=yesterday", "from"), ("to=2026-13-01", "to"), ("from=1e999", "from"), ("to=-", "to")],
)
def test_usage_refuses_what_it_does_not_know(billed: Plane, query: str, param: str) -> None:
    answer = billed.ask(f"/admin/v1/usage?{query}", key=billed.admin_key)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_ledger_that_cannot_be_read_is_a_503(tmp_path: Path, plane_with_ledger: Callable[[str], Plane]) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is no database, it only looks like a file" * 100)
    plane = plane_with_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    answer = plane.ask("/admin/v1/usage", key=plane.admin_key)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


def test_a_misspelt_wish_for_an_explanation_is_refused(plane: Plane) -> None:
    answer = plane.ask("/admin/v1/explain?model=chat-8b&tenant=support&prompt_tokens=5&max_ttft=9", key=plane.admin_key)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "max_ttft")
    assert "max_ttft_ms" in error["message"]
