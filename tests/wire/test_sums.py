"""After traffic of every kind: what the answers said, the ledger, the metrics and the workers' own time agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, Row, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker
from tests.wire.raw import Answer, RawClient, post

MESSAGES = [{"role": "user", "content": "hi"}]
OTHER_KEY = "sk-test-zeta"
HOURLY_USD = 3.6  # a thousand nano-USD a second: large enough to see, small enough not to round away
PRICE = {"input_usd_per_m": 2, "cached_input_usd_per_m": 1, "output_usd_per_m": 8}
NANO = 1_000_000_000


class Traffic(NamedTuple):
    gateway: GatewayProcess
    answers: list[Answer]
    rows: list[Row]
    probes: list[Row]  # those the gateway asks for itself


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    """Documents, streams, refusals, faults, retries, cache hits and clients that leave, six at a time."""
    with LiveWorker(["tiny@v1"]) as cheap, LiveWorker(["tiny@v2"]) as priced:
        cheap.behave(cached_tokens=3, pace=0.001)
        priced.behave(cached_tokens=3)
        config = configuration(
            [
                worker_entry("timed", cheap.url, gpus=2),
                worker_entry("priced", priced.url, serves="tiny@v2", price=PRICE),
            ],
            models={"tiny": {"context": 32768, "versions": {"v1": {}, "v2": {}}}},
            gpus={"cpu": {"hourly_usd": HOURLY_USD}},
            routes=[
                {
                    "name": "safe",
                    "match": {"model": "safe"},
                    "candidates": ["tiny@v2"],
                    "fallback": ["tiny@v1"],
                    "retry": {"attempts": 1, "budget": "100%"},
                }
            ],
            tenants={"acme": tenant(KEY), "zeta": tenant(OTHER_KEY)},
        )
        with GatewayProcess(tmp_path_factory.mktemp("sums"), config) as gateway:
            gateway.wait_up()
            with ThreadPoolExecutor(6) as pool:
                answers = [answer for answer in pool.map(lambda args: ask(gateway, *args), requests()) if answer]
            eventually(lambda: gateway.metric("tollgate_worker_inflight") == 0 or None, "nothing is in flight")
            started = int(gateway.metric("tollgate_attempts_total"))
            hits = int(gateway.metric("tollgate_cache_total", result="hit"))
            rows = eventually(
                lambda: rows if len(rows := gateway.all_rows()) == started + hits else None, "everything is written"
            )
            probes = [row for row in gateway.all_rows(probes=True) if row["tenant"] == "__probe__"]
            yield Traffic(gateway, answers, rows, probes)


def requests() -> list[tuple[str, bool, dict[str, Any]]]:
    """(key, whether the client leaves, what is asked)."""
    kinds: list[tuple[bool, dict[str, Any]]] = [
        (False, {"model": "tiny@v1"}),
        (False, {"model": "tiny@v2"}),
        (False, {"model": "tiny@v1", "stream": True}),
        (False, {"model": "tiny@v2", "stream": True, "stream_options": {"include_usage": True}}),
        (False, {"model": "tiny@v1", "temperature": 0}),
        (False, {"model": "tiny@v2", "temperature": -1}),
        (False, {"model": "nope"}),
        (False, {"model": "safe", "n": 2}),
        (False, {"model": "tiny@v2", "standin": {"fault": "refuse", "status": 503}}),
        (False, {"model": "tiny@v1", "stream": True, "standin": {"fault": "die", "after": 4, "pace": 0.005}}),
        (False, {"model": "tiny@v2", "stream": True, "standin": {"fault": "die", "after": 4, "pace": 0.005}}),
        (True, {"model": "tiny@v1", "stream": True, "standin": {"tokens": 9_999, "pace": 0.005}}),
        (True, {"model": "tiny@v2", "stream": True, "standin": {"tokens": 9_999, "pace": 0.005}}),
    ]
    return [
        ((KEY, OTHER_KEY)[(number + index) % 2], leaves, fields)
        for number in range(6)
        for index, (leaves, fields) in enumerate(kinds)
    ]


def ask(gateway: GatewayProcess, key: str, leaves: bool, fields: dict[str, Any]) -> Answer | None:
    with RawClient(gateway.port) as client:
        body = json.dumps({"messages": MESSAGES, **fields}).encode()
        client.send(post("/v1/chat/completions", body, f"authorization: Bearer {key}"))
        if leaves:
            client.read_until(b" same")
            return None
        return client.answer()


def test_the_traffic_was_of_every_kind(traffic: Traffic) -> None:
    """Otherwise the sums below would say little."""
    assert {row["outcome"] for row in traffic.rows} == {"ok", "cached", "aborted", "broken", "failed", "rejected"}
    assert {row["cost_basis"] for row in traffic.rows} == {"gpu_time", "token_price", "none"}
    assert {answer.status for answer in traffic.answers} == {200, 400, 404, 503}


def test_what_answers_said_is_what_the_ledger_holds(traffic: Traffic) -> None:
    costs: dict[str, int] = {}
    for row in traffic.rows:
        costs[row["request_id"]] = costs.get(row["request_id"], 0) + row["cost_nanousd"]
    said = {
        answer.headers["x-request-id"]: round(float(answer.headers["x-tollgate-cost-usd"]) * NANO)
        for answer in traffic.answers
        if "x-tollgate-cost-usd" in answer.headers
    }
    assert len(said) >= 20
    assert {name: costs[name] for name in said} == said


def test_the_metrics_say_what_the_ledger_says(traffic: Traffic) -> None:
    gateway, rows = traffic.gateway, traffic.rows
    worked = [row for row in rows if row["outcome"] != "cached"]
    for name in ("acme", "zeta"):
        mine = [row for row in worked if row["tenant"] == name]
        cost = gateway.metric("tollgate_cost_usd_total", tenant=name)
        assert round(cost * NANO) == sum(row["cost_nanousd"] for row in mine)
        for kind in ("prompt", "cached", "output"):
            counted = gateway.metric("tollgate_tokens_total", tenant=name, kind=kind)
            assert counted == sum(row[f"{kind}_tokens"] for row in mine)
    outcomes = {outcome for labels, _ in gateway.samples("tollgate_attempts_total") for outcome in [labels["outcome"]]}
    for outcome in outcomes:
        counted = gateway.metric("tollgate_attempts_total", outcome=outcome)
        assert counted == len([row for row in rows if row["outcome"] == outcome])
    assert gateway.metric("tollgate_requests_total") == len(traffic.answers) + gateway.metric("tollgate_aborts_total")


def test_the_log_says_what_the_ledger_says(traffic: Traffic) -> None:
    for answer in traffic.answers:
        line = traffic.gateway.request_line(answer.headers["x-request-id"])
        mine = [row for row in traffic.rows if row["request_id"] == line["request_id"]]
        assert round(line["cost_usd"] * NANO) == sum(row["cost_nanousd"] for row in mine)
        assert len([row for row in mine if row["worker"]]) == line["attempts"]


def test_token_prices_are_exact(traffic: Traffic) -> None:
    priced = [row for row in traffic.rows if row["cost_basis"] == "token_price"]
    assert len(priced) >= 20
    for row in priced:
        plain = row["prompt_tokens"] - row["cached_tokens"]
        assert row["cost_nanousd"] == plain * 2_000 + row["cached_tokens"] * 1_000 + row["output_tokens"] * 8_000


def test_the_time_of_a_worker_is_shared_out_whole(traffic: Traffic) -> None:
    """Its busy seconds times its rate are what its tenants pay, to half a nano-USD an attempt."""
    timed = [row for row in (*traffic.rows, *traffic.probes) if row["worker"] == "timed"]
    assert {row["outcome"] for row in timed} == {"ok", "aborted", "broken"}
    busy = traffic.gateway.metric("tollgate_worker_busy_seconds_total", worker="timed")
    assert sum(round(row["gpu_seconds"] * NANO) for row in timed) == round(busy * NANO)
    owed = busy * 2 * HOURLY_USD / 3_600 * NANO
    assert abs(sum(row["cost_nanousd"] for row in timed) - owed) <= len(timed) / 2
    assert owed > 1_000


def test_the_bill_is_the_ledger(traffic: Traffic) -> None:
    usage = traffic.gateway.admin("usage?by=tenant,model")
    for entry in (*usage["rows"], usage["total"]):
        mine = [row for row in (*traffic.rows, *traffic.probes) if entry.get("tenant") in (None, row["tenant"])]
        assert round(float(entry["metered_usd"]) * NANO) == sum(row["cost_nanousd"] for row in mine)
        assert entry["attempts"] == len(mine)
        assert entry["requests"] == len({row["request_id"] for row in mine})
