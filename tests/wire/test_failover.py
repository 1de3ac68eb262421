"""A worker fails and another answers, as long as the client has seen nothing yet; after that nobody may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.eventually import eventually
from tests.gateway_process import GatewayProcess, configuration, worker_entry
from tests.live_worker import LiveWorker
from tests.ports import reserved_port
from tests.wire.answers import chunks, error_of, events, request_id

MESSAGES = [{"role": "user", "content": "hi"}]
PATIENCE = {"first_token": "600ms", "idle": "600ms", "total": "30s"}


def written(first: str, second: str, **changes: Any) -> dict[str, Any]:
    """Route `safe` asks the first worker and then, whatever it thinks of it, the second."""
    routes = [
        {"name": "safe", "match": {"model": "safe"}, "candidates": ["tiny@v1"], "fallback": ["tiny@v2"]},
        {"name": "lone", "match": {"model": "lone"}, "candidates": ["tiny@v1"], "fallback": ["tiny@v2"]},
    ]
    routes[0] |= {"timeout": PATIENCE, "retry": {"attempts": 2, "budget": "100%"}}
    routes[1] |= {"retry": {"attempts": 0}}
    return configuration(
        [worker_entry("first", first), worker_entry("second", second, serves="tiny@v2")],
        models={"tiny": {"context": 32768, "versions": {"v1": {}, "v2": {}}}},
        routes=routes,
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
    with GatewayProcess(tmp_path_factory.mktemp("failover"), written(first.url, second.url)) as gateway:
        yield gateway


@pytest.fixture
def http(gateway: GatewayProcess, first: LiveWorker, second: LiveWorker) -> Iterator[httpx2.Client]:
    first.behave()
    second.behave()
    gateway.wait_up()
    with gateway.client() as client:
        # What a test before did to the first worker is forgotten once that has answered again.
        eventually(lambda: ask(client).headers.get("x-tollgate-worker") == "first", "the first worker is asked again")
        yield client


def ask(http: httpx2.Client, model: str = "safe", **fields: Any) -> httpx2.Response:
    return http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES, **fields})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"fault": "refuse", "status": 503}, 503),
        ({"fault": "refuse", "status": 500}, 502),
        ({"fault": "refuse", "status": 401}, 502),
        ({"fault": "hang_up"}, 502),
        ({"fault": "reset"}, 502),
        ({"fault": "garbage"}, 502),
        ({"fault": "die"}, 502),
    ],
)
def test_another_worker_answers(
    stream: bool, fault: dict[str, Any], status: int, http: httpx2.Client, first: LiveWorker, gateway: GatewayProcess
) -> None:
    first.behave(**fault)
    answer = ask(http, stream=stream)
    assert answer.status_code == 200
    if stream:
        assert len(chunks(answer.content)) == 17
    else:
        assert answer.json()["model"] == "safe"
    headers = answer.headers
    assert (headers["x-tollgate-worker"], headers["x-tollgate-attempts"]) == ("second", "2")
    assert headers["x-tollgate-model"] == "tiny@v2"
    one, two = gateway.rows(request_id(answer), 2)
    assert (one["worker"], one["outcome"], one["status"]) == ("first", "failed", status)
    assert (one["prompt_tokens"], one["output_tokens"], one["cost_nanousd"]) == (0, 0, 0)
    assert (two["worker"], two["outcome"], two["status"], two["version"]) == ("second", "ok", 200, "v2")
    assert (one["attempt_id"], two["attempt_id"]) == (f"{request_id(answer)}.1", f"{request_id(answer)}.2")
    line = gateway.request_line(request_id(answer))
    assert (line["attempts"], line["outcome"]) == (2, "ok")
    assert line["other_attempts"] == [{"worker": "first", "outcome": "failed", "status": status}]


@pytest.mark.parametrize("fault", [{"fault": "error_frame", "status": 503}, {"fault": "silent"}, {"fault": "stuck"}])
def test_another_worker_answers_a_stream_that_does_not_begin(
    fault: dict[str, Any], http: httpx2.Client, first: LiveWorker, gateway: GatewayProcess
) -> None:
    first.behave(**fault)
    answer = ask(http, stream=True)
    assert (answer.status_code, answer.headers["x-tollgate-attempts"]) == (200, "2")
    assert len(chunks(answer.content)) == 17
    assert [row["outcome"] for row in gateway.rows(request_id(answer), 2)] == ["failed", "ok"]
    first.behave()
    first.hang_up()  # a probe may be stuck in there


def test_both_workers_get_the_same_request_under_the_same_id(
    http: httpx2.Client, first: LiveWorker, second: LiveWorker
) -> None:
    first.behave(fault="refuse", status=503)
    answer = ask(http, stream=True, seed=7, top_k=3)
    bodies = [worker.body(request_id(answer)) for worker in (first, second)]
    assert [body.pop("model") for body in bodies] == ["tiny@v1", "tiny@v2"]
    assert bodies[0] == bodies[1]


def test_when_nobody_answers_the_last_one_has_the_word(
    http: httpx2.Client, first: LiveWorker, second: LiveWorker, gateway: GatewayProcess
) -> None:
    first.behave(fault="hang_up")
    second.behave(fault="refuse", status=503)
    answer = ask(http)
    assert (answer.status_code, error_of(answer)["code"]) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1
    assert (answer.headers["x-tollgate-worker"], answer.headers["x-tollgate-attempts"]) == ("second", "2")
    assert [row["outcome"] for row in gateway.rows(request_id(answer), 2)] == ["failed", "failed"]


def test_a_refusal_of_the_request_is_nothing_another_worker_could_better(
    http: httpx2.Client, second: LiveWorker
) -> None:
    answer = ask(http, temperature=-1)
    assert (answer.status_code, answer.headers["x-tollgate-attempts"]) == (400, "1")
    assert second.seen(request_id(answer)) == []


def test_a_route_without_retries(http: httpx2.Client, first: LiveWorker, second: LiveWorker) -> None:
    first.behave(fault="refuse", status=503)
    answer = ask(http, "lone")
    assert (answer.status_code, answer.headers["x-tollgate-attempts"]) == (503, "1")
    assert second.seen(request_id(answer)) == []


@pytest.mark.parametrize("fault", ["die", "reset", "error_frame"])
def test_after_the_first_byte_nobody_else_is_asked(
    fault: str, http: httpx2.Client, first: LiveWorker, second: LiveWorker, gateway: GatewayProcess
) -> None:
    first.behave(fault=fault, after=5, pace=0.05, tokens=50)
    answer = ask(http, stream=True)
    assert (answer.status_code, answer.headers["x-tollgate-attempts"]) == (200, "1")
    assert "error" in orjson.loads(events(answer.content)[-1][1])
    assert second.seen(request_id(answer)) == []
    (row,) = gateway.rows(request_id(answer))
    assert (row["worker"], row["outcome"]) == ("first", "broken")


def test_a_worker_that_dies_is_replaced_at_once_and_taken_back(
    second: LiveWorker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    port = reserved_port()
    with LiveWorker(["tiny@v1"], port=port) as mortal, ExitStack() as stack:
        config = written(mortal.url, second.url, probe={"every": "500ms", "wait": "2s"})
        gateway = stack.enter_context(GatewayProcess(tmp_path_factory.mktemp("death"), config))
        gateway.wait_up()
        outlives = stack.pop_all()
    with outlives, gateway.client() as client:
        answer = ask(client)
        assert (answer.status_code, answer.headers["x-tollgate-worker"]) == (200, "second")
        gateway.wait_log(lambda line: line["event"] == "worker down" and line["worker"] == "first")
        again = ask(client)
        assert (again.status_code, again.headers["x-tollgate-attempts"]) == (200, "1")
        with LiveWorker(["tiny@v1"], port=port):
            gateway.wait_up("first")
            assert ask(client).headers["x-tollgate-worker"] == "first"


def test_retries_have_a_budget(first: LiveWorker, second: LiveWorker, tmp_path: Path) -> None:
    """A quiet gateway has ten to spare; at 1 % of the traffic they are soon used up. With both workers failing, the
    breakers leave nobody out."""
    config = written(first.url, second.url)
    config["routes"][0]["retry"] = {"attempts": 2, "budget": "1%"}
    first.behave()
    with GatewayProcess(tmp_path, config) as gateway, gateway.client() as client:
        gateway.wait_up()
        for worker in (first, second):
            worker.behave(fault="refuse", status=500)
        answers = [ask(client) for _ in range(15)]
        assert {answer.status_code for answer in answers} == {502}
        assert [answer.headers["x-tollgate-attempts"] for answer in answers] == ["2"] * 10 + ["1"] * 5
    for worker in (first, second):
        worker.behave()
