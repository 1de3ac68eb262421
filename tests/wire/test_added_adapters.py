"""Adapters added and removed by the API of a running gateway: in every one of its processes, for the tenants they are
for, over a reload and a restart; and those whose files go bad afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapter_files import write_adapter
from tests.eventually import eventually, promised
from tests.gateway_process import ADMIN_KEY, KEY, GatewayProcess, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker

OTHER_KEY = "sk-test-other"
SPREAD_SECONDS = 2.0
EACH = 12  # connections, so that the kernel deals some to every process
SHARE_NAME = "share"


def written(worker: LiveWorker, share: Path, processes: int = 1, **changes: Any) -> dict[str, Any]:
    server = {"host": "127.0.0.1", "port": 4000, "drain_seconds": 5, "processes": processes}
    return configuration(
        [worker_entry("w0", worker.url, max_loras=2)],
        server=server,
        tenants={"acme": tenant(KEY), "other": tenant(OTHER_KEY)},
        adapters={"directories": [str(share)]},
        **changes,
    )


@pytest.fixture
def share(tmp_path: Path) -> Path:
    path = tmp_path / SHARE_NAME
    write_adapter(path / "a")
    return path.resolve()


@pytest.fixture
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


@pytest.fixture
def gateway(tmp_path: Path, worker: LiveWorker, share: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path / "gateway", written(worker, share)) as gateway:
        gateway.wait_up()
        yield gateway


def admin(gateway: GatewayProcess, method: str, at: str, **body: Any) -> tuple[int, Any]:
    with gateway.client(ADMIN_KEY) as client:
        answer = client.request(method, f"/admin/v1/{at}", json=body or None)
        return answer.status_code, answer.json()


def add(gateway: GatewayProcess, name: str, path: Path, **more: Any) -> tuple[int, Any]:
    return admin(gateway, "POST", "adapters", model="tiny", name=name, path=str(path), **more)


def ask(gateway: GatewayProcess, model: str, key: str = KEY) -> tuple[int, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "temperature": 1}
    with gateway.client(key) as client:
        answer = client.post("/v1/chat/completions", json=body)
        return answer.status_code, answer.json()


def offered(gateway: GatewayProcess, key: str) -> set[bool]:
    """Whether processes offer `tiny:a` to a tenant, each connection another one's answer."""
    said: set[bool] = set()
    for _ in range(EACH):
        with gateway.client(key) as client:
            said.add("tiny:a" in {card["id"] for card in client.get("/v1/models").json()["data"]})
    return said


def everywhere(gateway: GatewayProcess, is_there: bool, key: str = KEY) -> None:
    promised(lambda: offered(gateway, key) == {is_there} or None, f"offered everywhere: {is_there}", SPREAD_SECONDS)


@pytest.mark.timeout(90)
def test_one_is_added_used_and_removed_without_a_restart(tmp_path: Path, worker: LiveWorker, share: Path) -> None:
    with GatewayProcess(tmp_path / "gateway", written(worker, share, 2)) as gateway:
        gateway.wait_processes(2)
        gateway.wait_up()
        added_used_and_removed(gateway, worker, share)


def added_used_and_removed(gateway: GatewayProcess, worker: LiveWorker, share: Path) -> None:
    assert ask(gateway, "tiny:a")[0] == 404
    status, made = add(gateway, "a", share / "a", tenants=["acme"], version="1")
    assert (status, made["source"], made["in_effect"]) == (201, "api", True)
    everywhere(gateway, True)
    assert offered(gateway, OTHER_KEY) == {False}
    for _ in range(EACH):
        status, answer = ask(gateway, "tiny:a")
        assert (status, answer.get("model")) == (200, "tiny:a"), answer
        assert ask(gateway, "tiny:a", OTHER_KEY)[0] == 403
    assert set(worker.models.orders) == {("load", "tiny:a@1")}
    assert gateway.metric("tollgate_adapter_loads_total", model="tiny", outcome="ok") >= 1
    assert add(gateway, "a", share / "a", tenants=["acme"], version="1")[0] == 200

    revision = gateway.admin("config")["revision"]
    gateway.write(written(worker, share, 2, aliases={"mine": "tiny"}))
    eventually(lambda: gateway.admin("config")["revision"] != revision or None, "the reload")
    everywhere(gateway, True)
    gateway.stop()
    gateway.start()
    gateway.wait_processes(2)
    gateway.wait_up()
    assert offered(gateway, KEY) == {True}

    assert admin(gateway, "DELETE", "adapters/tiny/a")[0] == 200
    everywhere(gateway, False)
    assert ask(gateway, "tiny:a")[0] == 404
    eventually(lambda: not worker.models.adapters or None, "the worker has unloaded it")


def test_hostile_files_are_refused_before_and_after(gateway: GatewayProcess, worker: LiveWorker, share: Path) -> None:
    bad = write_adapter(share / "bad")
    (bad / "adapter_model.bin").write_bytes(b"\x80\x04.")
    status, answer = add(gateway, "bad", bad)
    assert (status, answer["error"]["code"]) == (400, "adapter_refused")
    assert "pickle" in answer["error"]["message"]
    assert add(gateway, "out", share / ".." / SHARE_NAME / "a")[0] == 400

    (bad / "adapter_model.bin").unlink()
    worker.models.load_delay = 0.5
    assert add(gateway, "bad", bad)[0] == 201
    assert add(gateway, "a", share / "a")[0] == 201
    eventually(lambda: len(worker.models.adapters) == 2 or None, "both are loaded")
    (good,) = (name for name in worker.models.adapters if ":a@" in name)
    (bad / "adapter_model.safetensors").write_bytes(b"\x80\x04.")
    eventually(lambda: list(worker.models.adapters) == [good] or None, "what it was is unloaded")
    status, answer = ask(gateway, "tiny:bad")
    assert (status, answer["error"]["code"]) == (503, "adapter_not_loaded")
    assert "not whole" in answer["error"]["message"]
    assert len([name for what, name in worker.models.orders if what == "load" and ":bad@" in name]) == 1
    assert ask(gateway, "tiny:a")[0] == ask(gateway, "tiny")[0] == 200
    eventually(
        lambda: gateway.metric("tollgate_adapter_loads_total", model="tiny", outcome="failed") or None, "it is counted"
    )
    rows = {row["name"]: row for row in gateway.admin("adapters")["adapters"]}
    assert rows["a"]["workers"][0]["serves"] == good


def test_what_the_yaml_takes_over_is_the_yamls(gateway: GatewayProcess, worker: LiveWorker, share: Path) -> None:
    assert add(gateway, "a", share / "a", version="api")[0] == 201
    eventually(lambda: list(worker.models.adapters) == ["tiny:a@api"] or None, "it is loaded")
    models = json.loads((gateway.config / "all.yaml").read_text())["models"]
    models["tiny"]["adapters"] = {"a": {"path": "/adapters/a", "version": "yaml"}}
    gateway.write(written(worker, share, models=models))
    eventually(lambda: list(worker.models.adapters) == ["tiny:a@yaml"] or None, "the YAML's is")
    rows = {row["source"]: row for row in gateway.admin("adapters")["adapters"]}
    assert (rows["yaml"]["in_effect"], rows["api"]["in_effect"]) == (True, False)
    assert add(gateway, "a", share / "a", version="api")[1]["error"]["code"] == "adapter_in_yaml"
