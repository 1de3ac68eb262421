"""A changed configuration under a running gateway: it takes effect, and no request under way notices.

A change takes a second or more to be believed, so each dialogue here changes much at once and goes on from where the
one before has left the configuration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker
from tests.wire.answers import chunks, request_id
from tests.wire.raw import RawClient, post

PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
NEW_KEY = "sk-test-new"
PRICE = {"input_usd_per_m": 1_000, "output_usd_per_m": 0}


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


@pytest.fixture(scope="module")
def other() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


@pytest.fixture(scope="module")
def gateway(worker: LiveWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("reload"), configuration({"w0": worker.url})) as gateway:
        gateway.wait_ready()
        yield gateway


def ask(gateway: GatewayProcess, model: str = "tiny", key: str = KEY, **fields: Any) -> httpx2.Response:
    with gateway.client(key) as client:
        return client.post(PATH, json={"model": model, "messages": MESSAGES, **fields})


def start_stream(gateway: GatewayProcess, client: RawClient, **fields: Any) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "stream": True, **fields}
    client.send(post(PATH, json.dumps(body).encode(), f"authorization: Bearer {KEY}"))


def reload(gateway: GatewayProcess, written: dict[str, Any]) -> None:
    """Writes a configuration and waits until it is in effect."""
    before = gateway.admin("config")["reloads"]
    gateway.write(written)
    eventually(lambda: gateway.admin("config")["reloads"] > before or None, "the new configuration is in effect")


def test_everything_may_change_under_a_stream(gateway: GatewayProcess, worker: LiveWorker, other: LiveWorker) -> None:
    """Its alias, its key, its tenant, its price and its worker are all gone before it ends."""
    assert ask(gateway, "gpt-9").status_code == 404
    assert ask(gateway, key=NEW_KEY).status_code == 401
    assert ask(gateway).headers["x-tollgate-route"] == "direct"
    with RawClient(gateway.port) as client:
        start_stream(gateway, client, model="gpt-4o-mini", standin={"tokens": 300, "pace": 60})
        worker.wait_for(active=1)
        changed = configuration(
            [worker_entry("w1", other.url, price=PRICE)],
            aliases={"gpt-9": "tiny"},
            routes=[{"name": "mine", "match": {"model": "tiny"}, "candidates": ["tiny"]}],
            tenants={"zeta": tenant(NEW_KEY)},
        )
        reload(gateway, changed)
        gateway.wait_up("w1")
        assert worker.active == 1
        new = ask(gateway, "tiny", NEW_KEY)
        worker.release()
        streamed = client.answer()

    assert (new.status_code, new.headers["x-tollgate-worker"], new.headers["x-tollgate-route"]) == (200, "w1", "mine")
    assert new.headers["x-tollgate-cost-usd"] == "0.024000000"
    assert ask(gateway, "gpt-9", NEW_KEY).json()["model"] == "gpt-9"
    assert ask(gateway, "gpt-4o-mini", NEW_KEY).status_code == 404
    assert ask(gateway, key=KEY).status_code == 401
    with gateway.client(NEW_KEY) as client:
        assert [card["id"] for card in client.get("/v1/models").json()["data"]] == ["tiny", "tiny@v1", "gpt-9"]
    assert [one["name"] for one in gateway.admin("workers")["workers"]] == ["w1"]
    assert [one["name"] for one in gateway.admin("routes")["routes"]] == ["mine"]

    assert streamed.complete
    assert {chunk["model"] for chunk in chunks(streamed.body)} == {"gpt-4o-mini"}
    assert len(chunks(streamed.body)) == 301
    (row,) = gateway.rows(streamed.headers["x-request-id"])
    assert (row["tenant"], row["worker"], row["outcome"], row["output_tokens"]) == ("acme", "w0", "ok", 300)
    assert row["cost_basis"] == "gpu_time"


def test_a_worker_moves_and_a_limit_begins_with_what_is_under_way(
    gateway: GatewayProcess, worker: LiveWorker, other: LiveWorker
) -> None:
    reload(gateway, configuration({"w1": worker.url}, tenants={"acme": tenant(KEY, limits={"rpm": 1000})}))
    gateway.wait_up("w1")
    assert len(worker.seen(request_id(ask(gateway)))) == 1
    with RawClient(gateway.port) as client:
        start_stream(gateway, client, standin={"first_token_delay": 60})
        worker.wait_for(active=1)
        reload(gateway, configuration({"w1": worker.url}, tenants={"acme": tenant(KEY, limits={"concurrency": 1})}))
        assert ask(gateway).status_code == 429
    eventually(lambda: ask(gateway).status_code == 200 or None, "the place is free")


def test_what_needs_a_restart_says_so(gateway: GatewayProcess, worker: LiveWorker) -> None:
    server = {"host": "127.0.0.1", "port": 4001, "drain_seconds": 5}
    reload(gateway, configuration({"w0": worker.url}, server=server))
    assert gateway.admin("config")["needs_restart"] == ["server"]
    gateway.wait_log(lambda line: "only in effect after a restart: server" in line["event"])
    gateway.wait_up("w0")
    assert ask(gateway, "gpt-4o-mini").status_code == 200  # the rest is in effect


def test_what_is_invalid_changes_nothing(gateway: GatewayProcess, worker: LiveWorker) -> None:
    before = gateway.admin("config")
    count = gateway.metric("tollgate_config_failures_total")
    complaints = {
        "models: [": "this is not YAML",
        json.dumps(configuration({"w0": worker.url}, aliases={"a": "nowhere"})): "nowhere",
    }
    for number, (text, complaint) in enumerate(complaints.items(), start=1):
        gateway.write_text(text)
        state = eventually(lambda number=number: has_failed(gateway, before["failures"] + number), "it is refused")
        assert not state["valid"]
        assert state["revision"] == before["revision"]
        assert any(complaint in error["message"] for error in state["errors"]), state["errors"]
        assert any(error["file"] and error["line"] for error in state["errors"])
        assert gateway.metric("tollgate_config_valid") == 0
        assert gateway.metric("tollgate_config_failures_total") == count + number
        gateway.wait_log(lambda line, complaint=complaint: complaint in line["event"] and line["level"] == "error")
        assert ask(gateway, "gpt-4o-mini").status_code == 200
    gateway.write(configuration({"w0": worker.url}))
    eventually(lambda: gateway.metric("tollgate_config_valid") == 1 or None, "valid again")
    assert gateway.admin("config")["errors"] == []


def has_failed(gateway: GatewayProcess, times: int) -> dict[str, Any] | None:
    state = gateway.admin("config")
    return state if state["failures"] >= times else None


def test_a_directory_that_disappears_changes_nothing(gateway: GatewayProcess) -> None:
    away = gateway.config.with_name("away")
    gateway.config.rename(away)
    eventually(lambda: gateway.metric("tollgate_config_valid") == 0 or None, "noticed")
    assert ask(gateway).status_code == 200
    away.rename(gateway.config)
    eventually(lambda: gateway.metric("tollgate_config_valid") == 1 or None, "valid again")


def test_a_ledger_that_is_away_keeps_no_change_from_taking_effect(worker: LiveWorker, tmp_path: Path) -> None:
    """A new budget has to ask the ledger what is spent already."""
    with GatewayProcess(tmp_path, configuration({"w0": worker.url})) as gateway:
        gateway.wait_ready()
        ledger, away = tmp_path / "ledger.db", tmp_path / "away.db"
        ledger.rename(away)
        budget = {"usd": 100, "per": "day"}
        reload(gateway, configuration({"w0": worker.url}, tenants={"acme": tenant(NEW_KEY, budget=budget)}))
        assert ask(gateway, key=NEW_KEY).status_code == 200
        gateway.wait_log(lambda line: "budgets could not be read from the ledger" in line["event"])
        away.rename(ledger)
