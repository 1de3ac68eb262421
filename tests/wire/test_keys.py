"""API keys of a real gateway: what restricts them, and the store that commands and processes of one machine share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.eventually import eventually, promised
from tests.gateway_process import ADMIN_KEY, KEY, ROOT, GatewayProcess, configuration, digest, worker_entry
from tests.live_worker import LiveWorker
from tests.wire.raw import RawClient, head

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
EFFECTIVE_SECONDS = 2.0  # the promise
SCOPED, EXPIRED, TOKENIZER = "sk-test-scoped", "sk-test-expired", "sk-test-tokenizer"


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker(["tiny@v1"]) as worker:
        yield worker


@pytest.fixture(scope="module")
def other() -> Iterator[LiveWorker]:
    with LiveWorker(["big@v1"]) as worker:
        yield worker


def written(worker: LiveWorker, other: LiveWorker, processes: int = 1) -> dict[str, Any]:
    keys = [
        {"id": "all", "sha256": digest(KEY)},
        {"id": "scoped", "sha256": digest(SCOPED), "models": ["tiny"]},
        {"id": "expired", "sha256": digest(EXPIRED), "expires": "2026-01-31"},
        {"id": "tokenizer", "sha256": digest(TOKENIZER), "endpoints": ["tokenize", "detokenize"]},
    ]
    return configuration(
        [worker_entry("w0", worker.url), worker_entry("w1", other.url, serves="big@v1")],
        server={"host": "127.0.0.1", "port": 4000, "drain_seconds": 5, "processes": processes},
        models={name: {"context": 4096, "versions": {"v1": {}}} for name in ("tiny", "big")},
        tenants={"acme": {"keys": keys}},
    )


@pytest.fixture(scope="module")
def gateway(
    worker: LiveWorker, other: LiveWorker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("keys"), written(worker, other)) as gateway:
        gateway.wait_up()
        yield gateway


def ask(gateway: GatewayProcess, key: str, model: str = "tiny", path: str = CHAT, **fields: Any) -> httpx2.Response:
    """On a connection of its own, which the kernel gives to any process."""
    with gateway.client(key) as http:
        return http.post(path, json={"model": model, "messages": MESSAGES, **fields})


def becomes(gateway: GatewayProcess, key: str, status: int) -> None:
    """Answers `status` ten times in a row, so from each process."""

    def always() -> bool | None:
        return all(ask(gateway, key).status_code == status for _ in range(10)) or None

    promised(always, f"{status}", EFFECTIVE_SECONDS)


def tollgate(gateway: GatewayProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command on the gateway's machine, in its working directory."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gateway.cli", *arguments, "--config", str(gateway.config)]
    return subprocess.run(
        command, cwd=gateway.directory, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def error(answer: httpx2.Response) -> tuple[int, str, str]:
    found = answer.json()["error"]
    return answer.status_code, found["code"], found["message"]


def test_a_key_reaches_the_models_it_lists(gateway: GatewayProcess) -> None:
    assert [ask(gateway, KEY, model).status_code for model in ("tiny", "big")] == [200, 200]
    assert [ask(gateway, SCOPED, model).status_code for model in ("tiny", "tiny@v1", "gpt-4o-mini")] == [200, 200, 200]
    status, code, message = error(ask(gateway, SCOPED, "big"))
    assert (status, code) == (403, "model_not_allowed")
    assert "`big`" in message


def test_models_lists_what_the_key_may_use(gateway: GatewayProcess) -> None:
    def listed(key: str) -> set[str]:
        with gateway.client(key) as http:
            return {card["id"] for card in http.get("/v1/models").json()["data"]}

    assert listed(KEY) == {"tiny", "tiny@v1", "big", "big@v1", "gpt-4o-mini"}
    assert listed(SCOPED) == {"tiny", "tiny@v1", "gpt-4o-mini"}


def test_a_key_calls_the_endpoints_it_lists(gateway: GatewayProcess) -> None:
    assert ask(gateway, TOKENIZER, path="/tokenize", prompt="hi").status_code == 200
    answer = ask(gateway, TOKENIZER)
    status, code, message = error(answer)
    assert (status, code) == (403, "endpoint_not_allowed")
    assert "`chat.completions`, only detokenize, tokenize" in message
    assert gateway.request_line(answer.headers["x-request-id"])["key"] == "tokenizer"


def test_an_expired_key_says_when_it_ended(gateway: GatewayProcess) -> None:
    status, code, message = error(ask(gateway, EXPIRED))
    assert (status, code) == (401, "invalid_api_key")
    assert "(`expired` of tenant `acme`) expired at 2026-01-31T00:00:00Z" in message


@pytest.mark.parametrize(
    ("key", "status", "code"), [(EXPIRED, 401, b"invalid_api_key"), (TOKENIZER, 403, b"endpoint_not_allowed")]
)
def test_neither_need_send_a_large_body_to_be_told(gateway: GatewayProcess, key: str, status: int, code: bytes) -> None:
    with RawClient(gateway.port) as client:
        client.send(head(CHAT, f"authorization: Bearer {key}", "content-length: 10000000"))
        answer = client.answer()
    assert answer.status == status
    assert code in answer.body


def test_what_a_command_does_to_the_store_counts_in_every_process_within_two_seconds(
    worker: LiveWorker, other: LiveWorker, tmp_path: Path
) -> None:
    with GatewayProcess(tmp_path, written(worker, other, processes=2)) as gateway:
        gateway.wait_ready()
        made = tollgate(gateway, "keys", "create", "acme", "--store", "--models", "tiny", "--id", "ci")
        first = made.stdout.strip()
        becomes(gateway, first, 200)
        assert error(ask(gateway, first, "big"))[:2] == (403, "model_not_allowed")

        rotated = tollgate(gateway, "keys", "rotate", "acme", "ci")
        second = rotated.stdout.strip()
        assert "its earlier secret is let in until 20" in rotated.stderr
        becomes(gateway, second, 200)
        assert ask(gateway, first).status_code == 200
        third = tollgate(gateway, "keys", "rotate", "acme", "ci", "--grace", "0s").stdout.strip()
        becomes(gateway, second, 401)
        becomes(gateway, first, 401)
        becomes(gateway, third, 200)
        assert ask(gateway, KEY).status_code == 200

        def used() -> dict[str, Any] | None:
            listed = json.loads(tollgate(gateway, "keys", "list", "--format", "json").stdout)["keys"]
            found = {one["id"]: one["last_used"] for one in listed}
            return found if found["ci"] and found["all"] else None

        assert eventually(used, "the list says when they were last used")["scoped"] is None
        assert tollgate(gateway, "keys", "revoke", "acme", "ci").returncode == 0
        becomes(gateway, third, 401)
        table = tollgate(gateway, "keys", "list", "--tenant", "acme").stdout
        assert "revoked since" in table
    for secret in (first, second, third):
        assert secret.startswith("sk-tg-")
        assert secret.encode() not in (tmp_path / "keys.db").read_bytes()
        assert secret not in json.dumps(gateway.log) + gateway.errors + made.stderr + rotated.stderr + table


def test_a_request_under_way_outlives_its_key(gateway: GatewayProcess) -> None:
    with gateway.client(ADMIN_KEY) as admin:
        key = admin.post("/admin/v1/keys", json={"tenant": "acme", "id": "brief"}).json()["key"]
        body = {"model": "tiny", "messages": MESSAGES, "stream": True, "standin": {"tokens": 60, "pace": 0.02}}
        with gateway.client(key) as http, http.stream("POST", CHAT, json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            assert admin.delete("/admin/v1/keys/acme/brief").json()["state"] == "revoked"
            assert ask(gateway, key).status_code == 401
            assert "data: [DONE]" in list(lines)


def test_a_key_of_the_yaml_is_changed_where_it_is_written(gateway: GatewayProcess) -> None:
    for arguments in (("rotate", "acme", "scoped"), ("revoke", "acme", "scoped")):
        done = tollgate(gateway, "keys", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"scoped of acme is written at {gateway.config}/all.yaml:1 and is changed there" in done.stderr
    with gateway.client(ADMIN_KEY) as admin:
        status, code, message = error(admin.delete("/admin/v1/keys/acme/scoped"))
    assert (status, code) == (409, "key_in_yaml")
    assert f"{gateway.config}/all.yaml:1" in message
    assert ask(gateway, SCOPED).status_code == 200
