"""The log: one line per request, with everything a person asks of it and nothing a tenant would not want there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.gateway_process import ADMIN_KEY, KEY, GatewayProcess, configuration
from tests.live_worker import LiveWorker
from tests.wire.answers import request_id
from tests.wire.raw import RawClient, post

PATH = "/v1/chat/completions"
SECRET = "the-prompt-nobody-may-read"
REDACTABLE = "mail ada@example.com or call +44 20 7946 0958 with sk-live_abcdefgh12345"

FIELDS = {
    "time": float,
    "level": str,
    "event": str,
    "request_id": str,
    "tenant": str,
    "key": str,
    "endpoint": str,
    "model_asked": str,
    "model": str,
    "route": str,
    "reason": str,
    "worker": str,
    "attempts": int,
    "cache": str,
    "stream": bool,
    "status": int,
    "outcome": str,
    "prompt_tokens": int,
    "cached_tokens": int,
    "output_tokens": int,
    "estimated": bool,
    "ttft_ms": float | None,
    "duration_ms": float,
    "overhead_ms": float | None,
    "cost_usd": float,
    "config": str,
    "parameters": dict,
}


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


@contextmanager
def logging(directory: Path, worker: LiveWorker, prompts: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(directory, configuration({"w0": worker.url}, log={"prompts": prompts})) as gateway:
        gateway.wait_ready()
        yield gateway


def ask(gateway: GatewayProcess, text: str = SECRET, path: str = PATH, **fields: Any) -> httpx2.Response:
    said = {"prompt": text} if path == "/v1/completions" else {"messages": [{"role": "user", "content": text}]}
    with gateway.client() as client:
        return client.post(path, json={"model": "gpt-4o-mini", **said, **fields})


def line_of(gateway: GatewayProcess, answer: httpx2.Response) -> dict[str, Any]:
    return gateway.request_line(request_id(answer))


@pytest.fixture(scope="module")
def gateway(worker: LiveWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with logging(tmp_path_factory.mktemp("log"), worker, "none") as gateway:
        yield gateway


def test_a_line_has_every_field(gateway: GatewayProcess) -> None:
    answer = ask(gateway, stream=True, temperature=0.5, stop=["a", "b"], standin={"cached_tokens": 5})
    line = line_of(gateway, answer)
    assert set(line) == set(FIELDS)
    for name, kind in FIELDS.items():
        assert isinstance(line[name], kind), name
    told = {name: line[name] for name in ("event", "tenant", "key", "endpoint", "model_asked", "model", "route")}
    assert told == {
        "event": "request",
        "tenant": "acme",
        "key": "k1",
        "endpoint": "chat.completions",
        "model_asked": "gpt-4o-mini",
        "model": "tiny@v1",
        "route": "direct",
    }
    assert line["reason"] == "named by the request, least latency"
    assert (line["worker"], line["attempts"], line["cache"]) == ("w0", 1, "bypass")
    assert (line["stream"], line["status"], line["outcome"], line["estimated"]) == (True, 200, "ok", False)
    assert (line["cached_tokens"], line["output_tokens"]) == (5, 16)
    assert 0 < line["overhead_ms"] <= line["duration_ms"]
    assert 0 < line["ttft_ms"] <= line["duration_ms"]
    assert line["parameters"] == {
        "model": "<11 chars>",
        "messages": "<1 items>",
        "stream": True,
        "temperature": 0.5,
        "stop": "<2 items>",
        "standin": "<1 keys>",
    }
    assert line["config"] == gateway.admin("config")["revision"]


def test_no_prompt_and_no_key_is_ever_logged(worker: LiveWorker, tmp_path: Path) -> None:
    """Not on the way that goes well, and on none that does not."""
    with logging(tmp_path, worker, "none") as gateway:
        assert ask(gateway).status_code == 200
        assert ask(gateway, stream=True, user=SECRET, metadata={SECRET: SECRET}).status_code == 200
        assert ask(gateway, path="/v1/completions").status_code == 200
        assert ask(gateway, messages=SECRET).status_code == 400  # the engine quotes what it refuses
        assert ask(gateway, temperature=SECRET).status_code == 400
        assert ask(gateway, stream=SECRET).status_code == 400
        assert ask(gateway, routing={"only": SECRET}).status_code == 400
        assert ask(gateway, standin={"fault": "refuse", "status": 500}).status_code == 502
        assert ask(gateway, temperature=0, standin={"fault": "hang_up"}).status_code == 502
        gateway.wait_up()
        ask(gateway, stream=True, standin={"fault": "die", "after": 3, "pace": 0.01})
        for key in ("sk-live-" + SECRET, ADMIN_KEY, KEY + SECRET):
            with gateway.client(key) as client:
                assert client.post(PATH, json={"model": "tiny"}).status_code == 401
        with RawClient(gateway.port) as client:
            client.send(post(PATH, b'{"model": "' + SECRET.encode(), f"authorization: Bearer {KEY}"))
            assert client.answer().status == 400
        with gateway.client() as client:
            client.get(f"/v1/models?q={SECRET}")
    whole = json.dumps(gateway.log) + gateway.errors
    assert whole.count('"event": "request"') == 14
    assert SECRET not in whole
    assert KEY not in whole
    assert ADMIN_KEY not in whole


def test_a_redacted_prompt_has_no_address_number_or_key(worker: LiveWorker, tmp_path: Path) -> None:
    with logging(tmp_path, worker, "redacted") as gateway:
        prompt = line_of(gateway, ask(gateway, REDACTABLE))["prompt"]
    assert "mail [redacted] or call [redacted] with [redacted]" in prompt
    assert "ada@" not in json.dumps(gateway.log)


def test_what_a_prompt_may_show_can_be_changed_while_serving(worker: LiveWorker, tmp_path: Path) -> None:
    with logging(tmp_path, worker, "hash") as gateway:
        one, same, other = (line_of(gateway, ask(gateway, text))["prompt"] for text in (SECRET, SECRET, SECRET + "!"))
        assert one == same != other
        assert one.startswith("blake2b:")
        assert SECRET not in json.dumps(gateway.log)
        gateway.write(configuration({"w0": worker.url}, log={"prompts": "full"}))
        gateway.wait_log(lambda line: "is in effect" in line["event"])
        full = line_of(gateway, ask(gateway, REDACTABLE, system="be kind", tools=[]))
        refused = line_of(gateway, ask(gateway, messages=SECRET))
    assert full["prompt"] == {"messages": [{"role": "user", "content": REDACTABLE}], "system": "be kind"}
    assert SECRET in refused["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "status", "level", "outcome", "code"),
    [
        ({"model": "nope"}, 404, "info", "rejected", "model_not_found"),
        ({"temperature": -1}, 400, "info", "rejected", None),
        ({"standin": {"fault": "refuse", "status": 503}}, 503, "warning", "failed", "overloaded"),
        ({"standin": {"fault": "refuse", "status": 500}}, 502, "warning", "failed", "worker_failed"),
    ],
)
def test_a_line_says_what_went_wrong_and_for_whom_it_matters(
    fields: dict[str, Any],
    status: int,
    level: str,
    outcome: str,
    code: str | None,
    gateway: GatewayProcess,
) -> None:
    answer = ask(gateway, **fields)
    line = line_of(gateway, answer)
    assert (answer.status_code, line["status"], line["level"], line["outcome"]) == (status, status, level, outcome)
    assert line["error"]["code"] == code
    assert line["cost_usd"] == 0
