"""What became of a request, asked of the admin API and of the command: retries, hedges, cache hits and refusals too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.eventually import eventually
from tests.gateway_process import ADMIN_KEY, KEY, ROOT, GatewayProcess, configuration, worker_entry
from tests.live_worker import LiveWorker
from tests.wire.answers import chunks, request_id

MESSAGES = [{"role": "user", "content": "the secret of the house"}]
MILLISECOND = 0.001  # what the time of an attempt that another follows is exact to: a request's arrival is kept so
ALL = {"candidates": ["tiny@v1"], "fallback": ["tiny@v2"], "cache": {"when": "never"}}


def written(first: str, second: str, **changes: Any) -> dict[str, Any]:
    return configuration(
        [worker_entry("first", first), worker_entry("second", second, serves="tiny@v2")],
        models={"tiny": {"context": 1024, "versions": {"v1": {}, "v2": {}}}},
        routes=[
            {"name": "safe", "match": {"model": "safe"}, **ALL, "retry": {"attempts": 2, "budget": "100%"}},
            {"name": "soon", "match": {"model": "soon"}, **ALL, "hedge": {"after": "50ms", "at_most": "100%"}},
            {"name": "kept", "match": {"model": "kept"}, **ALL, "cache": {"when": "always"}},
        ],
        **changes,
    )


@pytest.fixture(scope="module")
def first() -> Iterator[LiveWorker]:
    with LiveWorker(["tiny@v1"]) as worker:
        yield worker


@pytest.fixture(scope="module")
def second() -> Iterator[LiveWorker]:
    with LiveWorker(["tiny@v2"]) as worker:
        yield worker


@pytest.fixture(scope="module")
def gateway(
    first: LiveWorker, second: LiveWorker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("explain"), written(first.url, second.url)) as gateway:
        gateway.wait_up()
        yield gateway


@pytest.fixture(autouse=True)
def as_usual(first: LiveWorker, second: LiveWorker) -> None:
    first.behave()
    second.behave()


def post(gateway: GatewayProcess, model: str = "tiny", **fields: Any) -> httpx2.Response:
    with gateway.client() as client:
        body = {"model": model, "messages": MESSAGES, "max_tokens": 4, **fields}
        return client.post("/v1/chat/completions", json=body)


def explained(gateway: GatewayProcess, answer: httpx2.Response) -> dict[str, Any]:
    """Once the gateway has noted it, which it does a moment after the answer."""
    path = f"decisions/{request_id(answer)}"

    def found() -> dict[str, Any] | None:
        document = gateway.admin(path)
        return document if "request_id" in document else None

    return eventually(found, f"{path} is kept")


def command(gateway: GatewayProcess, *words: str, key: str | None = ADMIN_KEY) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))}
    environ.pop("TOLLGATE_ADMIN_KEY", None)
    if key is not None:
        environ["TOLLGATE_ADMIN_KEY"] = key
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", "explain", *words, "--config", str(gateway.config)],
        cwd=gateway.directory,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_streamed_answer(gateway: GatewayProcess) -> None:
    answer = post(gateway, stream=True)
    assert chunks(answer.content)
    found = explained(gateway, answer)
    assert found["request_id"] == request_id(answer)
    request = found["request"]
    assert (request["tenant"], request["key"], request["model"], request["stream"]) == ("acme", "k1", "tiny", True)
    assert request["output_tokens"] == 4
    assert found["route"] == "direct"
    assert found["reason"] == "named by the request, least latency"
    assert {one["worker"] for one in found["candidates"]} == {"first", "second"}
    (attempt,) = found["attempts"]
    assert attempt["outcome"] == "ok"
    assert attempt["worker"] == answer.headers["x-tollgate-worker"] == found["candidates"][0]["worker"]
    result = found["result"]
    assert (result["status"], result["outcome"], result["cache"]) == (200, "ok", "bypass")
    assert result["output_tokens"] == 4
    assert 0 < result["ttft_seconds"] <= result["duration_seconds"]
    ttft = found["prediction"]["ttft_seconds"]
    assert ttft["predicted"] == found["candidates"][0]["ttft_seconds"] > 0
    assert ttft["ratio"] == pytest.approx(ttft["realised"] / ttft["predicted"])
    assert gateway.metric("tollgate_prediction_error_ttft_ratio_count", model="tiny") >= 1
    assert "secret" not in json.dumps(found)


def test_a_retry_shows_who_failed_and_who_answered(gateway: GatewayProcess, first: LiveWorker) -> None:
    first.behave(fault="refuse", status=500)
    found = explained(gateway, post(gateway, "safe"))
    assert [(one["number"], one["worker"], one["outcome"]) for one in found["attempts"]] == [
        (1, "first", "failed"),
        (2, "second", "ok"),
    ]
    assert found["attempts"][0]["status"] == 502
    assert found["attempts"][1]["after_seconds"] >= found["attempts"][0]["after_seconds"] - MILLISECOND
    assert found["prediction"]["worker"] == "second"
    assert found["result"]["outcome"] == "ok"


def test_a_hedge_shows_both(gateway: GatewayProcess, first: LiveWorker) -> None:
    first.behave(header_delay=60.0)
    found = explained(gateway, post(gateway, "soon"))
    assert [(one["worker"], one["outcome"]) for one in found["attempts"]] == [("first", "hedged"), ("second", "ok")]
    assert found["attempts"][1]["after_seconds"] >= 0.05


def test_a_hit_of_the_cache_was_tried_nowhere(gateway: GatewayProcess) -> None:
    post(gateway, "kept")
    found = explained(gateway, post(gateway, "kept"))
    assert found["attempts"] == []
    assert found["prediction"] is None
    assert (found["result"]["outcome"], found["result"]["cache"], found["result"]["cost_usd"]) == ("cached", "hit", 0.0)


def test_a_refusal_says_what_was_left_out_and_why(gateway: GatewayProcess) -> None:
    answer = post(gateway, messages=[{"role": "user", "content": "long " * 4000}])
    assert answer.status_code == 400
    found = explained(gateway, answer)
    assert found["candidates"] == []
    assert {one["worker"]: one["reason"] for one in found["dropped"]} == {
        "first": "context_length",
        "second": "context_length",
    }
    assert found["dropped"][0]["why"] == "the prompt does not fit its context"
    assert found["error"]["code"] == "context_length_exceeded"
    assert found["result"]["outcome"] == "rejected"


def test_one_whose_key_is_wrong_has_only_that(gateway: GatewayProcess) -> None:
    with gateway.client("sk-wrong") as client:
        answer = client.post("/v1/chat/completions", json={"model": "tiny", "messages": MESSAGES})
    found = explained(gateway, answer)
    assert (found["request"]["tenant"], found["request"]["model"], found["candidates"]) == ("", None, [])
    assert found["error"]["code"] == "invalid_api_key"


def test_terms_of_the_request_are_shown(gateway: GatewayProcess) -> None:
    found = explained(gateway, post(gateway, routing={"only": ["second", "tiny"], "max_ttft_ms": 90000}))
    assert found["request"]["preferences"] == {"only": ["second", "tiny"], "max_ttft_seconds": 90.0}


def test_an_id_that_is_not_kept(gateway: GatewayProcess) -> None:
    with gateway.client(ADMIN_KEY) as client:
        answer = client.get("/admin/v1/decisions/req_0000000000000000000000000001")
        assert answer.status_code == 404
        assert "what is kept there begins at" in answer.json()["error"]["message"]
        assert client.get("/admin/v1/decisions/nonsense").status_code == 400


def test_the_command_shows_it_as_text_and_as_json(gateway: GatewayProcess) -> None:
    answer = post(gateway, stream=True)
    found = explained(gateway, answer)
    done = command(gateway, request_id(answer), key=None)
    assert done.returncode == 0, done.stderr
    for part in ("Candidates, best first", "Attempts", "predicted and realised", "first", "second", request_id(answer)):
        assert part in done.stdout
    done = command(gateway, request_id(answer), "--format", "json", key=None)
    assert json.loads(done.stdout) == found
    done = command(gateway, request_id(answer), "--format", "json", "--url", gateway.url)
    assert json.loads(done.stdout) == found


def test_the_command_describes_a_request_and_sends_none(gateway: GatewayProcess, first: LiveWorker) -> None:
    words = ("--model", "tiny", "--tenant", "acme", "--prompt-tokens", "300", "--url", gateway.url)
    before = gateway.metric("tollgate_requests_total")
    done = command(gateway, *words, "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["request"]["prompt_tokens"] == 300
    assert {one["worker"] for one in found["candidates"]} == {"first", "second"}
    assert "attempts" not in found
    assert gateway.metric("tollgate_requests_total") == before
    assert "Candidates, best first" in command(gateway, *words).stdout


def test_a_described_request_that_would_be_refused(gateway: GatewayProcess) -> None:
    words = ("--model", "tiny", "--tenant", "acme", "--prompt-tokens", "9000", "--url", gateway.url)
    done = command(gateway, *words)
    assert done.returncode == 0, done.stderr
    assert "context_length_exceeded" in done.stdout
    assert "the prompt does not fit its context" in done.stdout


@pytest.mark.parametrize(
    ("words", "key", "status", "said"),
    [
        (("req_0000000000000000000000000001",), None, 1, "what is kept there begins at"),
        (("req_ffffffffffff0000000000000001",), None, 1, "after the year 9999, has not come yet"),
        (("nonsense",), None, 2, "is no request id"),
        ((), None, 2, "--model, --tenant, --prompt-tokens missing"),
        (("req_0000000000000000000000000001", "--model", "x"), None, 2, "an ID says all"),
        (("--model", "tiny", "--tenant", "acme", "--prompt-tokens", "5"), None, 1, "TOLLGATE_ADMIN_KEY"),
        (("--model", "tiny", "--tenant", "acme", "--prompt-tokens", "5"), "k", 1, "no gateway answers at"),
        (("--model", "tiny", "--tenant", "acme", "--prompt-tokens", "0"), "k", 2, "is no number of tokens"),
    ],
)
def test_what_the_command_says_when_it_can_not(
    gateway: GatewayProcess, words: tuple[str, ...], key: str | None, status: int, said: str
) -> None:
    post(gateway)
    done = command(gateway, *words, key=key)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_that_is_no_admins(gateway: GatewayProcess) -> None:
    words = ("--model", "tiny", "--tenant", "nobody", "--prompt-tokens", "5", "--url", gateway.url)
    assert "TOLLGATE_ADMIN_KEY holds the key" in command(gateway, *words, key=KEY).stderr
    assert "There is no tenant `nobody`" in command(gateway, *words).stderr


def test_decisions_outlive_their_process(first: LiveWorker, second: LiveWorker, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, written(first.url, second.url))
    with gateway:
        gateway.wait_up()
        answers = [post(gateway) for _ in range(5)]
        for answer in answers:
            explained(gateway, answer)
        gateway.stop(signal.SIGKILL)
        for answer in answers:
            assert command(gateway, request_id(answer), key=None).returncode == 0
        gateway.start()
        gateway.wait_up()
        newer = post(gateway)
        for answer in (*answers, newer):
            assert explained(gateway, answer)["result"]["status"] == 200
    (ring,) = (tmp_path / "ledger.decisions").iterdir()
    assert ring.stat().st_mode & 0o777 == 0o600


def test_any_process_explains_what_another_took(first: LiveWorker, second: LiveWorker, tmp_path: Path) -> None:
    shared = {"server": {"host": "127.0.0.1", "port": 4000, "processes": 2, "drain_seconds": 5}}
    with GatewayProcess(tmp_path, written(first.url, second.url, **shared)) as gateway:
        gateway.wait_processes(2)
        gateway.wait_up()
        for _ in range(6):  # each over a connection of its own, which the kernel gives to either
            assert explained(gateway, post(gateway))["result"]["status"] == 200
    assert len(list((tmp_path / "ledger.decisions").iterdir())) == 2


def test_where_none_is_kept_it_says_so(first: LiveWorker, second: LiveWorker, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, written(first.url, second.url, decisions={"keep_mb": 0})) as gateway:
        gateway.wait_up()
        answer = post(gateway)
        assert "keeps no decisions" in gateway.admin(f"decisions/{request_id(answer)}")["error"]["message"]
        assert "keeps no decisions" in command(gateway, request_id(answer), key=None).stderr
    assert not (tmp_path / "ledger.decisions").exists()
