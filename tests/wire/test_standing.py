"""Workers that pass their probes and fail their requests: breakers, ejection, and that the last one is asked still."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from gateway.routing.breaker import FAILURES_TO_TRIP, FIRST_PAUSE
from tests.eventually import eventually
from tests.gateway_process import GatewayProcess, configuration, worker_entry
from tests.live_worker import LiveWorker
from tests.wire.answers import error_of

MESSAGES = [{"role": "user", "content": "hi"}]
FAILS = {"fault": "refuse", "status": 500}


@pytest.fixture
def workers() -> Iterator[tuple[LiveWorker, LiveWorker]]:
    with LiveWorker(["tiny@v1", "tuned"]) as first, LiveWorker(["tiny@v1", "tuned"]) as second:
        yield first, second


@pytest.fixture
def gateway(
    workers: tuple[LiveWorker, LiveWorker], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    entries = [
        worker_entry(name, worker.url, max_loras=2) for name, worker in zip(("first", "second"), workers, strict=True)
    ]
    model = {"context": 32768, "versions": {"v1": {}}, "adapters": {"tuned": {"path": "adapters/tuned"}}}
    written = configuration(entries, models={"tiny": model})
    with GatewayProcess(tmp_path_factory.mktemp("standing"), written) as gateway:
        gateway.wait_up()
        yield gateway


@pytest.fixture
def http(gateway: GatewayProcess) -> Iterator[httpx2.Client]:
    with gateway.client() as client:
        yield client


def ask(http: httpx2.Client, only: str | None = None, model: str = "tiny", **fields: Any) -> httpx2.Response:
    routing = {} if only is None else {"routing": {"only": [only]}}
    return http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES, **routing, **fields})


def state(gateway: GatewayProcess, name: str) -> dict[str, Any]:
    return next(worker for worker in gateway.admin("workers")["workers"] if worker["name"] == name)


def test_a_breaker_opens_is_tried_once_and_closes(
    http: httpx2.Client, workers: tuple[LiveWorker, LiveWorker], gateway: GatewayProcess
) -> None:
    first, _ = workers
    first.behave(**FAILS)
    for _ in range(FAILURES_TO_TRIP):
        asked_at = time.monotonic()
        assert ask(http, "first").status_code == 502
    answers = [ask(http)]
    while len(answers) < 10 and time.monotonic() < asked_at + FIRST_PAUSE / 2:
        answers.append(ask(http))
    assert state(gateway, "first")["breakers"] == {"tiny@v1": "open"}
    assert gateway.wait_log(lambda line: line["event"] == "breaker opened")["worker"] == "first"
    assert {(a.status_code, a.headers["x-tollgate-worker"], a.headers["x-tollgate-attempts"]) for a in answers} == {
        (200, "second", "1")
    }
    assert gateway.metric("tollgate_worker_breaker_open", worker="first") == 1
    first.behave()
    eventually(lambda: ask(http, "first").status_code == 200 and not state(gateway, "first")["breakers"], "closed")
    assert gateway.wait_log(lambda line: line["event"] == "breaker closed")["worker"] == "first"
    assert gateway.metric("tollgate_worker_breaker_open", worker="first") == 0


def test_the_last_worker_is_asked_whatever_it_did(
    http: httpx2.Client, workers: tuple[LiveWorker, LiveWorker], gateway: GatewayProcess
) -> None:
    for worker in workers:
        worker.behave(**FAILS)
    for _ in range(2 * FAILURES_TO_TRIP):
        assert error_of(ask(http))["code"] == "worker_failed"
    assert state(gateway, "first")["breakers"]
    assert state(gateway, "second")["breakers"]
    workers[1].behave()
    assert ask(http, "second").status_code == 200  # at once: not after any pause


def test_one_adapters_failures_are_not_the_base_models(
    http: httpx2.Client, workers: tuple[LiveWorker, LiveWorker], gateway: GatewayProcess
) -> None:
    for _ in range(FAILURES_TO_TRIP):
        assert ask(http, "first", "tiny:tuned", standin=FAILS).status_code == 502
    assert state(gateway, "first")["breakers"] == {"tuned": "open"}
    assert ask(http, "first").status_code == 200
    assert ask(http, None, "tiny:tuned").headers["x-tollgate-worker"] == "second"


def test_a_worker_that_fails_more_than_its_sibling_is_ejected_for_a_while(
    http: httpx2.Client, workers: tuple[LiveWorker, LiveWorker], gateway: GatewayProcess
) -> None:
    """One in three, so that no breaker opens."""

    def ejected() -> bool:
        for number in range(12):
            ask(http, "first", **({"standin": FAILS} if number % 3 == 0 else {}))
            ask(http, "second")
        return state(gateway, "first")["ejected_seconds"] > 0

    eventually(ejected, "the first worker is ejected")
    assert state(gateway, "first")["breakers"] == {}
    assert gateway.wait_log(lambda line: line["event"] == "worker ejected")["worker"] == "first"
    assert gateway.metric("tollgate_worker_ejected", worker="first") == 1
    assert {ask(http).headers["x-tollgate-worker"] for _ in range(10)} == {"second"}
    assert ask(http, "first").status_code == 200  # who asks for no other is served


def test_a_failing_request_does_not_make_its_clients_deadline_the_workers_fault(
    http: httpx2.Client, workers: tuple[LiveWorker, LiveWorker], gateway: GatewayProcess
) -> None:
    for worker in workers:
        worker.behave(first_token_delay=30.0)
    for _ in range(FAILURES_TO_TRIP):
        answer = http.post(
            "/v1/chat/completions",
            json={"model": "tiny", "messages": MESSAGES, "stream": True, "routing": {"max_ttft_ms": 100}},
        )
        assert answer.status_code == 504
        assert (error_of(answer)["code"], error_of(answer)["param"]) == ("ttft_exceeded", "routing.max_ttft_ms")
        assert answer.headers["x-tollgate-attempts"] == "1"
    assert state(gateway, "first")["breakers"] == state(gateway, "second")["breakers"] == {}
    for worker in workers:
        worker.wait_idle()
