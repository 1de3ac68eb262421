"""A route that hedges asks a second worker while the first is slow; the first answer wins, the other one is stopped
and billed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration, worker_entry
from tests.live_worker import LiveWorker
from tests.wire.answers import chunks, error_of, request_id
from tests.wire.raw import RawClient, post

MESSAGES = [{"role": "user", "content": "hi"}]
LONG = 60.0  # nobody waits for it


def hedged(name: str, after: str, share: str) -> dict[str, Any]:
    """Asks the first worker, and the second one beside it."""
    return {
        "name": name,
        "match": {"model": name},
        "candidates": ["tiny@v1"],
        "fallback": ["tiny@v2"],
        "hedge": {"after": after, "at_most": share},
        "cache": {"when": "never"},
    }


def written(first: str, second: str) -> dict[str, Any]:
    return configuration(
        [worker_entry("first", first), worker_entry("second", second, serves="tiny@v2")],
        models={"tiny": {"context": 32768, "versions": {"v1": {}, "v2": {}}}},
        routes=[hedged("soon", "50ms", "100%"), hedged("seldom", "20ms", "10%"), hedged("usual", "p90", "100%")],
    )


@pytest.fixture(scope="module")
def workers() -> Iterator[tuple[LiveWorker, LiveWorker]]:
    with LiveWorker(["tiny@v1"]) as first, LiveWorker(["tiny@v2"]) as second:
        yield first, second


@pytest.fixture(scope="module")
def gateway(
    workers: tuple[LiveWorker, LiveWorker], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("hedging"), written(*(worker.url for worker in workers))) as gateway:
        yield gateway


@pytest.fixture
def first(workers: tuple[LiveWorker, LiveWorker], gateway: GatewayProcess) -> LiveWorker:
    for worker in workers:
        worker.behave()
    gateway.wait_up()
    return workers[0]


@pytest.fixture
def second(workers: tuple[LiveWorker, LiveWorker]) -> LiveWorker:
    return workers[1]


@pytest.fixture
def http(gateway: GatewayProcess) -> Iterator[httpx2.Client]:
    with gateway.client() as client:
        yield client


def ask(http: httpx2.Client, model: str, **fields: Any) -> httpx2.Response:
    return http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES, **fields})


@pytest.mark.parametrize(
    ("stream", "slow"),
    [(True, {"first_token_delay": LONG}), (True, {"header_delay": LONG}), (False, {"header_delay": LONG})],
)
def test_the_second_worker_answers_while_the_first_is_slow(
    stream: bool, slow: dict[str, Any], http: httpx2.Client, first: LiveWorker, gateway: GatewayProcess
) -> None:
    first.behave(**slow)
    answer = ask(http, "soon", stream=stream)
    assert (answer.status_code, answer.headers["x-tollgate-worker"]) == (200, "second")
    assert answer.headers["x-tollgate-attempts"] == "2"
    if stream:
        assert len(chunks(answer.content)) == 17
    loser, winner = gateway.rows(request_id(answer), 2)
    assert (loser["worker"], loser["outcome"], loser["estimated"]) == ("first", "hedged", 1)
    assert (winner["worker"], winner["outcome"], winner["estimated"]) == ("second", "ok", 0)
    assert loser["gpu_seconds"] >= 0.045
    nanoseconds = round(loser["gpu_seconds"] * 1e9)
    assert abs(1000 * loser["cost_nanousd"] - nanoseconds) <= 500  # at 3.60 USD an hour, to the nearest nano-USD
    if not stream:
        cost = round(float(answer.headers["x-tollgate-cost-usd"]) * 1e9)
        assert cost == loser["cost_nanousd"] + winner["cost_nanousd"]
    line = gateway.request_line(request_id(answer))
    assert line["other_attempts"] == [{"worker": "first", "outcome": "hedged", "status": 0}]
    assert line["cost_usd"] == pytest.approx((loser["cost_nanousd"] + winner["cost_nanousd"]) / 1e9)
    assert line["overhead_ms"] < line["duration_ms"]
    first.wait_idle()  # it was told to stop


@pytest.mark.parametrize("stream", [True, False])
def test_the_first_may_win_still(
    stream: bool, http: httpx2.Client, first: LiveWorker, second: LiveWorker, gateway: GatewayProcess
) -> None:
    first.behave(header_delay=LONG)
    second.behave(header_delay=LONG)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, http, "soon", stream=stream)
        second.wait_for(active=1)
        first.release()
        answer = asking.result()
    assert (answer.headers["x-tollgate-worker"], answer.headers["x-tollgate-attempts"]) == ("first", "2")
    winner, loser = gateway.rows(request_id(answer), 2)
    assert [(row["worker"], row["outcome"]) for row in (winner, loser)] == [("first", "ok"), ("second", "hedged")]
    second.wait_idle()


def test_nobody_else_is_asked_when_the_first_is_quick(
    http: httpx2.Client, first: LiveWorker, second: LiveWorker
) -> None:
    first.behave()
    answer = ask(http, "soon")
    assert answer.headers["x-tollgate-attempts"] == "1"
    assert second.seen(request_id(answer)) == []


def answered_after_the_first_failed(
    http: httpx2.Client, first: LiveWorker, second: LiveWorker, gateway: GatewayProcess
) -> httpx2.Response:
    """A hedged stream whose first worker fails while both are asked; the second goes on once the gateway knows."""

    def failures() -> float:
        return gateway.metric("tollgate_attempts_total", worker="first", outcome="failed")

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, http, "soon", stream=True)
        second.wait_for(active=1)
        before = failures()
        first.release()
        eventually(lambda: failures() > before or None, "the gateway has heard of the failure")
        second.release()
        return asking.result()


def test_when_the_first_fails_meanwhile_the_second_has_the_word(
    http: httpx2.Client, first: LiveWorker, second: LiveWorker, gateway: GatewayProcess
) -> None:
    first.behave(first_token_delay=LONG, fault="error_frame", status=503)
    second.behave(header_delay=LONG)
    answer = answered_after_the_first_failed(http, first, second, gateway)
    assert (answer.status_code, answer.headers["x-tollgate-worker"]) == (200, "second")
    assert [row["outcome"] for row in gateway.rows(request_id(answer), 2)] == ["failed", "ok"]


def test_when_both_fail_the_last_failure_is_the_answer(
    http: httpx2.Client, first: LiveWorker, second: LiveWorker, gateway: GatewayProcess
) -> None:
    first.behave(first_token_delay=LONG, fault="error_frame", status=503)
    second.behave(first_token_delay=LONG, fault="error_frame", status=500)
    answer = answered_after_the_first_failed(http, first, second, gateway)
    assert (answer.status_code, error_of(answer)["code"]) == (502, "worker_failed")
    assert [row["outcome"] for row in gateway.rows(request_id(answer), 2)] == ["failed", "failed"]


def test_no_more_than_the_share_is_hedged(http: httpx2.Client, first: LiveWorker, gateway: GatewayProcess) -> None:
    first.behave(header_delay=0.2)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(http, "seldom"), range(40)))
    assert {answer.status_code for answer in answers} == {200}
    second = sum(answer.headers["x-tollgate-attempts"] == "2" for answer in answers)
    assert 1 <= second <= 4


def test_the_moment_is_a_percentile_of_what_the_model_took(
    http: httpx2.Client, first: LiveWorker, second: LiveWorker
) -> None:
    """Not before enough answers are known; then what takes much longer than nearly all of them."""
    first.behave(header_delay=0.01)
    for _ in range(30):
        ask(http, "usual")
    first.behave(header_delay=LONG)
    answer = ask(http, "usual")
    assert (answer.status_code, answer.headers["x-tollgate-worker"]) == (200, "second")


def test_a_client_that_leaves_stops_both(first: LiveWorker, second: LiveWorker, gateway: GatewayProcess) -> None:
    for worker in (first, second):
        worker.behave(header_delay=LONG)
    aborted = gateway.metric("tollgate_aborts_total")
    with RawClient(gateway.port) as client:
        body = json.dumps({"model": "soon", "messages": MESSAGES}).encode()
        client.send(post("/v1/chat/completions", body, f"authorization: Bearer {KEY}"))
        for worker in (first, second):
            worker.wait_for(active=1)
    for worker in (first, second):
        worker.wait_idle()
    line = gateway.wait_log(lambda line: line.get("outcome") == "aborted")
    rows = gateway.rows(line["request_id"], 2)
    assert [(row["worker"], row["outcome"]) for row in rows] == [("first", "aborted"), ("second", "aborted")]
    assert gateway.metric("tollgate_aborts_total") == aborted + 1
    assert gateway.metric("tollgate_worker_inflight") == 0
