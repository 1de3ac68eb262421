"""The response cache as clients see it: what is kept, for whom, for how long, and one call for many."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest

from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker
from tests.wire.answers import chunks, events, request_id
from tests.wire.raw import Answer, RawClient, post

PATH = "/v1/chat/completions"
OTHER_KEY = "sk-test-zeta"
SMALL_KB = 8
numbers = itertools.count()


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


@pytest.fixture(scope="module")
def gateway(worker: LiveWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    def route(name: str, **cache: str) -> dict[str, Any]:
        return {"name": name, "match": {"model": name}, "candidates": ["tiny"], "cache": cache}

    with LiveWorker(["vec@v1"], task="embed") as embedder:
        written = configuration(
            [worker_entry("w0", worker.url), worker_entry("e0", embedder.url, serves="vec@v1")],
            models={
                "tiny": {"context": 32768, "versions": {"v1": {}}},
                "vec": {"task": "embed", "context": 512, "versions": {"v1": {}}},
            },
            routes=[route("keep", when="always"), route("forget", when="never"), route("brief", ttl="300ms")],
            cache={"max_entry_kb": SMALL_KB},
            tenants={"acme": tenant(KEY), "zeta": tenant(OTHER_KEY)},
        )
        with GatewayProcess(tmp_path_factory.mktemp("cache"), written) as gateway:
            gateway.wait_ready()
            yield gateway


@pytest.fixture
def http(gateway: GatewayProcess, worker: LiveWorker) -> Iterator[httpx2.Client]:
    worker.behave()
    with gateway.client() as client:
        yield client


def fresh(**fields: Any) -> dict[str, Any]:
    """A request that nobody has made before."""
    prompt = f"question {next(numbers)}"
    return {"model": "tiny", "messages": [{"role": "user", "content": prompt}], "temperature": 0, **fields}


def cache_of(http: httpx2.Client, body: dict[str, Any], path: str = PATH) -> str:
    answer = http.post(path, json=body)
    assert answer.status_code == 200
    return answer.headers["x-tollgate-cache"]


def twice(http: httpx2.Client, body: dict[str, Any], path: str = PATH) -> tuple[str, str]:
    return cache_of(http, body, path), cache_of(http, body, path)


# What is kept


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stream": True},
        {"temperature": None, "seed": 7},
        {"temperature": 0.0, "tools": [{"type": "function", "function": {"name": "f"}}]},
        {"model": "keep", "temperature": 1.5},
    ],
)
def test_kept(fields: dict[str, Any], http: httpx2.Client) -> None:
    assert twice(http, fresh(**fields)) == ("miss", "hit")


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": None},
        {"temperature": 0.7},
        {"temperature": 1, "seed": None},
        {"tools": [{"type": "web_search"}]},
        {"model": "forget"},
        {"model": "forget", "stream": True},
    ],
)
def test_never_kept(fields: dict[str, Any], http: httpx2.Client) -> None:
    assert twice(http, fresh(**fields)) == ("bypass", "bypass")


def test_embeddings_are_always_the_same(http: httpx2.Client) -> None:
    assert twice(http, {"model": "vec", "input": "hi"}, "/v1/embeddings") == ("miss", "hit")


def test_what_fails_is_not_kept(http: httpx2.Client, worker: LiveWorker) -> None:
    body = fresh(max_tokens=0)
    for _ in range(2):
        answer = http.post(PATH, json=body)
        assert (answer.status_code, answer.headers["x-tollgate-cache"]) == (400, "miss")
        assert len(worker.seen(request_id(answer))) == 1


def test_a_stream_that_breaks_is_not_kept(http: httpx2.Client) -> None:
    body = fresh(stream=True, standin={"fault": "die", "after": 4, "pace": 0.01})
    assert b"[DONE]" not in http.post(PATH, json=body).content
    assert cache_of(http, body) == "miss"


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_too_large_is_passed_on_and_not_kept(stream: bool, http: httpx2.Client) -> None:
    body = fresh(stream=stream, standin={"tokens": 3_000})
    answer = http.post(PATH, json=body)
    assert len(answer.content) > SMALL_KB * 1024
    assert cache_of(http, body) == "miss"


def test_for_as_long_as_the_route_says(http: httpx2.Client) -> None:
    body = fresh(model="brief")
    assert cache_of(http, body) == "miss"
    eventually(lambda: cache_of(http, body) == "miss" or None, "the entry has expired")


# For whom


def test_another_tenant_gets_nothing_of_it(http: httpx2.Client, gateway: GatewayProcess) -> None:
    body = fresh()
    assert twice(http, body) == ("miss", "hit")
    with gateway.client(OTHER_KEY) as other:
        assert twice(other, body) == ("miss", "hit")


def test_the_same_request_in_other_words(http: httpx2.Client) -> None:
    """Neither the order of fields nor labels nor the name asked for make a different question."""
    body = fresh()
    assert cache_of(http, body) == "miss"
    assert cache_of(http, {**dict(reversed(body.items())), "user": "u1", "model": "gpt-4o-mini"}) == "hit"
    assert cache_of(http, {**body, "max_tokens": 5}) == "miss"


# What comes back


def test_a_hit_is_the_answer_again(http: httpx2.Client, gateway: GatewayProcess, worker: LiveWorker) -> None:
    body = fresh()
    first, again = http.post(PATH, json=body), http.post(PATH, json={**body, "model": "gpt-4o-mini"})
    assert again.content == first.content.replace(b'"model":"tiny"', b'"model":"gpt-4o-mini"')
    headers = again.headers
    assert (headers["x-tollgate-model"], headers["x-tollgate-worker"]) == ("tiny@v1", "cache")
    assert (headers["x-tollgate-attempts"], headers["x-tollgate-cost-usd"]) == ("0", "0.000000000")
    assert headers["content-type"] == first.headers["content-type"]
    assert worker.seen(request_id(again)) == []
    (row,) = gateway.rows(request_id(again))
    assert (row["outcome"], row["worker"], row["status"], row["cost_nanousd"]) == ("cached", "", 200, 0)
    (made,) = gateway.rows(request_id(first))
    for count in ("prompt_tokens", "output_tokens"):
        assert row[count] == made[count] > 0
    assert gateway.request_line(request_id(again))["outcome"] == "cached"


def test_a_stream_is_replayed_as_a_stream(http: httpx2.Client) -> None:
    body = fresh(stream=True)
    first, again = http.post(PATH, json=body), http.post(PATH, json=body)
    assert again.headers["x-tollgate-cache"] == "hit"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.content == first.content
    assert events(again.content)[-1] == ("", b"[DONE]")


def test_a_stream_kept_without_usage_has_it_for_who_asks(http: httpx2.Client) -> None:
    body = fresh(stream=True)
    plain = chunks(http.post(PATH, json=body).content)
    wanting = http.post(PATH, json={**body, "stream_options": {"include_usage": True}})
    assert wanting.headers["x-tollgate-cache"] == "hit"
    *rest, usage = chunks(wanting.content)
    assert rest == plain
    assert usage["usage"]["completion_tokens"] == 16


def test_what_is_not_generated_again_is_not_counted_again(http: httpx2.Client, gateway: GatewayProcess) -> None:
    body = fresh()
    http.post(PATH, json=body)
    tokens, cost = gateway.metric("tollgate_tokens_total"), gateway.metric("tollgate_cost_usd_total")
    hits = gateway.metric("tollgate_cache_total", result="hit")
    for _ in range(3):
        http.post(PATH, json=body)
    assert gateway.metric("tollgate_tokens_total") == tokens
    assert gateway.metric("tollgate_cost_usd_total") == cost
    assert gateway.metric("tollgate_cache_total", result="hit") == hits + 3


# One call for many


@contextmanager
def asking_together(gateway: GatewayProcess, body: dict[str, Any], count: int) -> Iterator[list[RawClient]]:
    """That many clients whose identical requests the gateway has all begun to serve."""
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(count)]
        for client in clients:
            client.send(post(PATH, json.dumps(body).encode(), f"authorization: Bearer {KEY}"))
        with gateway.client() as other:
            for _ in range(3):  # whatever was on its way before is read before these are
                assert other.get("/healthz").status_code == 200
        yield clients


def caches(answers: list[Answer]) -> list[str]:
    return sorted(answer.headers["x-tollgate-cache"] for answer in answers)


@pytest.mark.parametrize("stream", [False, True])
def test_twenty_identical_requests_are_one_call(stream: bool, gateway: GatewayProcess, worker: LiveWorker) -> None:
    finished = worker.finished
    worker.behave(header_delay=60)
    with asking_together(gateway, fresh(stream=stream), 20) as clients:
        worker.wait_for(active=1)
        worker.release()
        answers = [client.answer() for client in clients]
    assert caches(answers) == ["hit"] * 19 + ["miss"]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    worker.wait_for(finished=finished + 1)
    assert worker.finished == finished + 1


def test_followers_may_leave(gateway: GatewayProcess, worker: LiveWorker) -> None:
    finished, aborted = worker.finished, worker.aborted
    worker.behave(header_delay=60)
    with asking_together(gateway, fresh(), 20) as clients:
        worker.wait_for(active=1)
        for client in clients[1:15]:
            client.leave()
        worker.release()
        answers = [client.answer() for client in (clients[0], *clients[15:])]
    assert caches(answers) == ["hit"] * 5 + ["miss"]
    worker.wait_for(finished=finished + 1)
    assert (worker.finished, worker.aborted) == (finished + 1, aborted)


def test_when_the_first_of_them_leaves_the_next_goes(gateway: GatewayProcess, worker: LiveWorker) -> None:
    finished, aborted = worker.finished, worker.aborted
    worker.behave(header_delay=60)
    body = fresh()
    with asking_together(gateway, body, 1) as (leader,):
        worker.wait_for(active=1)
        with asking_together(gateway, body, 19) as clients:
            worker.behave()
            leader.leave()
            answers = [client.answer() for client in clients]
    assert caches(answers) == ["hit"] * 18 + ["miss"]
    assert {answer.status for answer in answers} == {200}
    worker.wait_for(finished=finished + 1, aborted=aborted + 1)
    assert (worker.finished, worker.aborted) == (finished + 1, aborted + 1)


def test_when_the_first_call_fails_the_next_goes(gateway: GatewayProcess, worker: LiveWorker) -> None:
    finished = worker.finished
    worker.behave(fault="garbage", header_delay=60)
    with asking_together(gateway, fresh(), 10) as clients:
        worker.wait_for(active=1)
        worker.behave()
        worker.release()
        answers = [client.answer() for client in clients]
    assert sorted(answer.status for answer in answers) == [200] * 9 + [502]
    assert caches(answers) == ["hit"] * 8 + ["miss"] * 2
    worker.wait_for(finished=finished + 2)
    assert worker.finished == finished + 2
    gateway.wait_up()


def test_what_is_too_large_to_keep_holds_nobody_up(gateway: GatewayProcess, worker: LiveWorker) -> None:
    """It is too large to share as well, so all go at once instead of one after the other."""
    finished = worker.finished
    worker.behave(header_delay=60, tokens=3_000)
    with asking_together(gateway, fresh(stream=True), 5) as clients:
        worker.wait_for(active=1)
        worker.behave(tokens=3_000)
        worker.release()
        answers = [client.answer() for client in clients]
    assert caches(answers) == ["miss"] * 5
    worker.wait_for(finished=finished + 5)
    assert worker.finished == finished + 5
