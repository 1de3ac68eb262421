"""Limits and budgets as clients meet them: refused in time, told truthfully, given back when nothing was used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.eventually import eventually
from tests.gateway_process import ADMIN_KEY, GatewayProcess, configuration, digest, tenant, worker_entry
from tests.live_worker import LiveWorker
from tests.wire.answers import error_of, request_id
from tests.wire.raw import RawClient, post

PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
PRICE = {"input_usd_per_m": 1_000, "output_usd_per_m": 10_000}
# What `ask` costs at that price: 24 prompt tokens and 4 of output, as the stand-in counts them.
COST_USD = (24 * 1_000 + 4 * 10_000) / 1_000_000


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


def written(worker: LiveWorker, **tenants: Any) -> dict[str, Any]:
    entry = worker_entry("w0", worker.url, price=PRICE)
    return configuration([entry], tenants={name: tenant(f"sk-test-{name}", **it) for name, it in tenants.items()})


@pytest.fixture(scope="module")
def gateway(worker: LiveWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    config = written(
        worker,
        few={"limits": {"rpm": 3}},
        small={"limits": {"tpm": 100}},
        narrow={"limits": {"concurrency": 1}},
        both={"limits": {"rpm": 600, "tpm": 100_000}},
        poor={"budget": {"usd": 3.5 * COST_USD, "per": "month"}},
        careful={"budget": {"usd": 10 * COST_USD, "per": "day"}},
        warned={"budget": {"usd": 1.5 * COST_USD, "per": "day", "on_exceed": "warn"}},
        free={},
    )
    with GatewayProcess(tmp_path_factory.mktemp("limits"), config) as gateway:
        gateway.wait_ready()
        yield gateway


def ask(gateway: GatewayProcess, name: str, **fields: Any) -> httpx2.Response:
    with gateway.client(f"sk-test-{name}") as client:
        return client.post(PATH, json={"model": "tiny", "messages": MESSAGES, "max_tokens": 4, **fields})


def send(gateway: GatewayProcess, name: str, client: RawClient, **fields: Any) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 4, **fields}
    client.send(post(PATH, json.dumps(body).encode(), f"authorization: Bearer sk-test-{name}"))


def test_requests_per_minute(gateway: GatewayProcess) -> None:
    allowed = [ask(gateway, "few") for _ in range(3)]
    assert [answer.status_code for answer in allowed] == [200] * 3
    assert [answer.headers["x-ratelimit-limit-requests"] for answer in allowed] == ["3"] * 3
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in allowed] == ["2", "1", "0"]
    refused = ask(gateway, "few")
    assert refused.status_code == 429
    error = error_of(refused)
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "requests per min (RPM): Limit 3, Used 3, Requested 1" in error["message"]
    headers = refused.headers
    assert "x-should-retry" not in headers
    assert headers["x-ratelimit-remaining-requests"] == "0"
    # Twenty seconds refill one of three; the header is never earlier than the truth.
    assert 1 <= int(headers["retry-after"]) <= 20
    assert 0 < int(headers["retry-after-ms"]) <= 20_000
    assert int(headers["retry-after"]) * 1000 >= int(headers["retry-after-ms"])
    assert gateway.request_line(request_id(refused))["outcome"] == "rejected"
    assert gateway.metric("tollgate_limit_refusals_total", tenant="few", code="rate_limit_exceeded") == 1


def test_tokens_per_minute(gateway: GatewayProcess) -> None:
    first = ask(gateway, "small")
    assert first.status_code == 200
    reserved = 100 - int(first.headers["x-ratelimit-remaining-tokens"])
    assert reserved >= 4
    assert first.headers["x-ratelimit-limit-tokens"] == "100"
    second = ask(gateway, "small", max_tokens=40)
    assert second.status_code == 200
    third = ask(gateway, "small", max_tokens=60)
    assert (third.status_code, error_of(third)["code"]) == (429, "rate_limit_exceeded")
    assert "tokens per min (TPM)" in error_of(third)["message"]
    assert int(third.headers["retry-after"]) >= 1


def test_a_request_that_no_minute_could_hold(gateway: GatewayProcess) -> None:
    answer = ask(gateway, "small", max_tokens=1_000)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false")
    assert "Request too large" in error_of(answer)["message"]
    assert "retry-after" not in answer.headers


def test_what_was_reserved_and_not_used_is_given_back(gateway: GatewayProcess) -> None:
    """Nobody's answers are known to be long yet, so a hundred choices hold a hundred first guesses of 256 tokens."""
    before = int(ask(gateway, "both").headers["x-ratelimit-remaining-tokens"])
    with RawClient(gateway.port) as client:
        send(gateway, "both", client, max_tokens=30_000, n=100, standin={"tokens": 5})
        reserved = int(client.answer().headers["x-ratelimit-remaining-tokens"])
    assert before - 30_000 < reserved < before - 20_000
    assert int(ask(gateway, "both").headers["x-ratelimit-remaining-tokens"]) > before - 1_000


def test_requests_at_the_same_time(gateway: GatewayProcess, worker: LiveWorker) -> None:
    with RawClient(gateway.port) as client:
        send(gateway, "narrow", client, stream=True, standin={"first_token_delay": 60})
        worker.wait_for(active=1)
        refused = ask(gateway, "narrow")
        assert (refused.status_code, error_of(refused)["code"]) == (429, "rate_limit_exceeded")
        assert "at the same time" in error_of(refused)["message"]
        assert int(refused.headers["retry-after"]) >= 1
    worker.wait_idle()  # the client has left, and its place is free
    eventually(lambda: ask(gateway, "narrow").status_code == 200 or None, "the place is free")
    assert ask(gateway, "narrow").status_code == 200


def test_a_refusal_takes_nothing(gateway: GatewayProcess) -> None:
    """A request refused by one limit, or by its worker, or not understood, leaves the other limits as they were."""
    before = int(ask(gateway, "both").headers["x-ratelimit-remaining-tokens"])
    assert ask(gateway, "both", max_tokens=200_000, n=1_000).status_code == 429
    assert ask(gateway, "both", model="nope").status_code == 404
    assert ask(gateway, "both", temperature=-1).status_code == 400
    after = ask(gateway, "both")
    assert int(after.headers["x-ratelimit-remaining-tokens"]) > before - 200


def test_limits_are_told_with_every_answer(gateway: GatewayProcess) -> None:
    names = {f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")}
    for answer in (
        ask(gateway, "both"),
        ask(gateway, "both", stream=True),
        ask(gateway, "both", model="nope"),
        ask(gateway, "both", temperature=-1),
    ):
        assert names <= set(answer.headers)
        assert answer.headers["x-ratelimit-limit-requests"] == "600"
    assert names.isdisjoint(ask(gateway, "free").headers)


def test_a_budget_ends(gateway: GatewayProcess) -> None:
    costs = []
    while (answer := ask(gateway, "poor")).status_code == 200:
        costs.append(float(answer.headers["x-tollgate-cost-usd"]))
        assert len(costs) < 5
    assert costs == pytest.approx([COST_USD] * 3)
    assert answer.status_code == 429
    error = error_of(answer)
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert "of the $0.224 per month of tenant `poor`, $0.192 is spent" in error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert gateway.metric("tollgate_limit_refusals_total", tenant="poor", code="insufficient_quota") == 1
    assert ask(gateway, "free").status_code == 200


def test_a_budget_that_only_warns(gateway: GatewayProcess) -> None:
    for _ in range(4):
        assert ask(gateway, "warned").status_code == 200
    line = gateway.wait_log(lambda line: (line["event"], line.get("tenant")) == ("budget used up", "warned"))
    assert (line["level"], line["percent"]) == ("warning", 100)
    assert line["spent_usd"] == pytest.approx(2 * COST_USD)


def test_a_budget_is_not_overrun_by_many_at_once(gateway: GatewayProcess, worker: LiveWorker) -> None:
    """What is under way is reserved: the rest waits for it instead of spending the same money twice."""
    clients = [RawClient(gateway.port) for _ in range(30)]
    for client in clients:
        send(gateway, "careful", client, standin={"header_delay": 60})

    def refusals() -> float:
        return gateway.metric("tollgate_limit_refusals_total", tenant="careful")

    eventually(lambda: refusals() + worker.active == 30 or None, "each is refused or with the worker")
    worker.release()
    answers = [client.answer() for client in clients]
    for client in clients:
        client.leave()
    allowed = [answer for answer in answers if answer.status == 200]
    refused = [json.loads(answer.body)["error"]["code"] for answer in answers if answer.status == 429]
    assert 1 <= len(allowed) <= 10
    assert len(allowed) + len(refused) == 30
    assert set(refused) == {"rate_limit_exceeded"}
    assert ask(gateway, "careful").status_code == 200


def test_a_budget_is_remembered_over_a_restart(worker: LiveWorker, tmp_path: Path) -> None:
    config = written(worker, poor={"budget": {"usd": 2.5 * COST_USD, "per": "total"}})
    with GatewayProcess(tmp_path, config) as gateway:
        gateway.wait_ready()
        assert [ask(gateway, "poor").status_code for _ in range(3)] == [200, 200, 429]
    with GatewayProcess(tmp_path, config) as gateway:
        gateway.wait_ready()
        answer = ask(gateway, "poor")
        assert (answer.status_code, error_of(answer)["code"]) == (429, "insufficient_quota")
        # More money, and it goes on where it was.
        gateway.write(written(worker, poor={"budget": {"usd": 3.5 * COST_USD, "per": "total"}}))
        eventually(lambda: ask(gateway, "poor").status_code == 200 or None, "the budget is raised")
        assert ask(gateway, "poor").status_code == 429


def test_the_operator_sees_how_far_limits_are_used(gateway: GatewayProcess) -> None:
    assert ask(gateway, "both").status_code == 200
    assert ask(gateway, "warned").status_code == 200
    ask(gateway, "few")  # whose limit takes twenty seconds to give one back
    with gateway.client(ADMIN_KEY) as client:
        shown = client.get("/admin/v1/limits").json()
    assert (shown["store"], shown["store_away"], shown["processes"]) == ("memory", False, 1)
    tenants = {one["tenant"]: one["accounts"] for one in shown["tenants"]}
    (account,) = tenants["both"]
    assert (account["account"], account["in_flight"]) == ("tenant", 0)
    assert account["requests_per_minute"]["limit"] == 600
    assert tenants["few"][0]["requests_per_minute"]["limit"] == 3
    assert 0 <= tenants["few"][0]["requests_per_minute"]["remaining"] < 3
    assert account["tokens_per_minute"]["limit"] == 100_000
    (budget,) = tenants["warned"]
    assert budget["account"] == "budget:day"
    assert budget["budget"]["spent_usd"] >= COST_USD
    assert tenants["free"] == []
    assert 0 <= gateway.metric("tollgate_limit_remaining", tenant="few", kind="requests") < 3
    assert gateway.metric("tollgate_limit_max", tenant="both", kind="tokens") == 100_000
    assert gateway.metric("tollgate_limit_budget_spent_usd", tenant="warned") >= COST_USD
    assert gateway.metric("tollgate_limit_store_away") == 0


@pytest.mark.parametrize("stream", [True, False])
def test_what_runs_is_stopped_before_it_costs_more_than_there_is(
    stream: bool, worker: LiveWorker, tmp_path: Path
) -> None:
    """A worker at a dollar a second, and half a dollar: a request of a minute ends after half a second."""
    config = configuration(
        [worker_entry("w0", worker.url, gpu="dear")],
        gpus={"dear": {"hourly_usd": 3_600}},
        tenants={"brief": tenant("sk-test-brief", budget={"usd": 0.5, "per": "total"})},
    )
    with GatewayProcess(tmp_path, config) as gateway:
        gateway.wait_ready()
        slow = {"pace": 20} if stream else {"header_delay": 60}
        with RawClient(gateway.port) as client:
            send(gateway, "brief", client, stream=stream, standin=slow)
            answer = client.answer()
        worker.wait_idle()
        if stream:
            assert answer.status == 200
            assert b"insufficient_quota" in answer.body
            assert b"[DONE]" not in answer.body
        else:
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (429, "insufficient_quota")
        line = gateway.request_line(answer.headers["x-request-id"])
        assert line["outcome"] == "aborted"
        assert 0.1 < line["cost_usd"] <= 0.5
        (row,) = gateway.rows(answer.headers["x-request-id"])
        assert row["cost_nanousd"] == round(line["cost_usd"] * 1e9)
        again = ask(gateway, "brief", max_tokens=1_000)
        assert (again.status_code, error_of(again)["code"]) == (429, "insufficient_quota")


def test_processes_without_a_redis_keep_one_limit(worker: LiveWorker, tmp_path: Path) -> None:
    """The kernel spreads connections over the processes, and each answer names the same account."""
    config = written(worker, few={"limits": {"rpm": 12}}, narrow={"limits": {"concurrency": 3}})
    config["server"] |= {"processes": 3}
    with GatewayProcess(tmp_path, config) as gateway:
        gateway.wait_ready()
        statuses = [ask(gateway, "few").status_code for _ in range(40)]
        assert statuses.count(200) == 12
        assert set(statuses) == {200, 429}
        clients = [RawClient(gateway.port) for _ in range(12)]
        for client in clients:
            send(gateway, "narrow", client, stream=True, standin={"pace": 60})
        worker.wait_for(active=3)
        statuses = [client.read_until(b"\r\n").split()[1] for client in clients]
        assert sorted(statuses) == [b"200"] * 3 + [b"429"] * 9
        for client in clients:
            client.leave()
        worker.wait_idle()
        eventually(lambda: ask(gateway, "narrow").status_code == 200 or None, "a place is free again")


def test_a_model_that_all_tenants_share(worker: LiveWorker, tmp_path: Path) -> None:
    config = written(worker, one={"limits": {"rpm": 100}}, other={})
    config["models"]["tiny"]["limits"] = {"rpm": 5}
    with GatewayProcess(tmp_path, config) as gateway:
        gateway.wait_ready()
        statuses = [ask(gateway, name).status_code for name in ("one", "other") * 5]
        assert statuses == [200] * 5 + [429] * 5
        refused = ask(gateway, "one")
        assert "the model `tiny`, which all tenants share on requests per min" in error_of(refused)["message"]
        assert refused.headers["x-ratelimit-limit-requests"] == "100"
        assert int(refused.headers["x-ratelimit-remaining-requests"]) >= 97  # a refusal takes nothing of its own
        with gateway.client(ADMIN_KEY) as client:
            accounts = {one["tenant"]: one["accounts"] for one in client.get("/admin/v1/limits").json()["tenants"]}
        assert accounts["model:tiny"][0]["requests_per_minute"] == {"limit": 5, "remaining": 0}


def test_a_model_that_is_full_leaves_requests_to_the_others_of_the_route(worker: LiveWorker, tmp_path: Path) -> None:
    with LiveWorker(["big@v1"]) as other:
        config = configuration(
            [worker_entry("w0", worker.url), worker_entry("w1", other.url, serves="big@v1")],
            models={name: {"context": 32768, "versions": {"v1": {}}} for name in ("tiny", "big")},
            routes=[{"name": "auto", "match": {"model": "auto"}, "candidates": ["tiny"], "fallback": ["big"]}],
            tenants={"acme": tenant("sk-test-acme", limits={"rpm": 100, "models": {"tiny": {"rpm": 2}}})},
        )
        with GatewayProcess(tmp_path, config) as gateway:
            gateway.wait_ready()
            answers = [ask(gateway, "acme", model="auto") for _ in range(4)]
            assert [answer.status_code for answer in answers] == [200] * 4
            assert [answer.headers["x-tollgate-model"] for answer in answers] == ["tiny@v1"] * 2 + ["big@v1"] * 2
            limits = [answer.headers["x-ratelimit-limit-requests"] for answer in answers]
            assert limits == ["2", "2", "100", "100"]
            refused = ask(gateway, "acme", model="tiny")
            assert (refused.status_code, error_of(refused)["code"]) == (429, "rate_limit_exceeded")
            assert (
                "tenant `acme` for the model `tiny` on requests per min (RPM): Limit 2" in error_of(refused)["message"]
            )
            assert int(refused.headers["retry-after"]) >= 1
            assert ask(gateway, "acme", model="big").status_code == 200


def test_a_key_with_limits_of_its_own(worker: LiveWorker, tmp_path: Path) -> None:
    keys = [
        {"id": "ci", "sha256": digest("sk-test-ci"), "limits": {"rpm": 2}},
        {"id": "prod", "sha256": digest("sk-test-prod")},
    ]
    config = configuration({"w0": worker.url}, tenants={"acme": {"keys": keys, "limits": {"rpm": 100}}})
    with GatewayProcess(tmp_path, config) as gateway:
        gateway.wait_ready()
        answers = [ask(gateway, "ci") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert "key `ci` of tenant `acme` on requests per min (RPM): Limit 2, Used 2" in error_of(answers[2])["message"]
        assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"2"}
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
        other = ask(gateway, "prod")
        assert (other.status_code, other.headers["x-ratelimit-limit-requests"]) == (200, "100")
        assert int(other.headers["x-ratelimit-remaining-requests"]) >= 97  # what the other key used is the tenant's too
        with gateway.client(ADMIN_KEY) as client:
            (shown,) = client.get("/admin/v1/limits").json()["tenants"]
        accounts = {one["account"]: one["requests_per_minute"] for one in shown["accounts"]}
        assert accounts["key:ci"] == {"limit": 2, "remaining": 0}
        assert accounts["tenant"]["limit"] == 100
