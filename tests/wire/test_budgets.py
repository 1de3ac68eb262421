"""A budget says what the ledger says, to the nano-USD: after traffic of every kind, in one process and in several, and
after a death in the midst of it."""

from __future__ import annotations

import json
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker
from tests.wire.raw import RawClient, post
from tests.wire.test_sums import HOURLY_USD, MESSAGES, OTHER_KEY, PRICE, ask, requests

ENDLESS = [(key, model) for key in (KEY, OTHER_KEY) for model in ("tiny@v1", "tiny@v2")]
NANO = 1_000_000_000
TENANTS = {
    "acme": tenant(KEY, budget={"usd": 1_000, "per": "day"}),
    "zeta": tenant(OTHER_KEY, budget={"usd": 0.001, "per": "total", "on_exceed": "warn"}),
}
SOON = {"every": 0.2, "delay": 1.0}
PROGRAM = f"""
import sys
from pathlib import Path
from gateway.app import run
from gateway.reconciling import Pace
sys.exit(run(Path(sys.argv[3]), int(sys.argv[5]), pace=Pace(**{SOON!r})))
"""


def program(directory: Path) -> list[str]:
    written = directory / "program.py"
    written.write_text(PROGRAM)
    return [str(written)]


def written(timed: LiveWorker, priced: LiveWorker, **changes: Any) -> dict[str, Any]:
    return configuration(
        [
            worker_entry("timed", timed.url, gpus=2),
            worker_entry("priced", priced.url, serves="tiny@v2", price=PRICE),
        ],
        **{
            "models": {"tiny": {"context": 32768, "versions": {"v1": {}, "v2": {}}}},
            "gpus": {"cpu": {"hourly_usd": HOURLY_USD}},
            "routes": [
                {
                    "name": "safe",
                    "match": {"model": "safe"},
                    "candidates": ["tiny@v2"],
                    "fallback": ["tiny@v1"],
                    "retry": {"attempts": 1, "budget": "100%"},
                },
                {
                    "name": "soon",
                    "match": {"model": "soon"},
                    "candidates": ["tiny@v1"],
                    "fallback": ["tiny@v2"],
                    "hedge": {"after": "20ms", "at_most": "100%"},
                },
            ],
            "tenants": TENANTS,
            "metering": {"readings": "1h"},  # no audit corrects what is compared
            **changes,
        },
    )


def hedged() -> list[tuple[str, bool, dict[str, Any]]]:
    return [(key, False, {"model": "soon", "stream": True}) for key in (KEY, OTHER_KEY)]


def agree(gateway: GatewayProcess, ledger: GatewayProcess | None = None) -> bool | None:
    """Whoever of its processes answers says of each tenant what the ledger says, its own or another's."""
    rows = (ledger or gateway).all_rows()
    for _ in range(3):
        shown = {one["tenant"]: one["accounts"] for one in gateway.admin("limits")["tenants"]}
        for name in TENANTS:
            owed = sum(row["cost_nanousd"] for row in rows if row["tenant"] == name)
            said = gateway.metric("tollgate_limit_budget_spent_usd", tenant=name)
            if not owed or [round(said * NANO)] != [round(it["budget"]["spent_usd"] * NANO) for it in shown[name]]:
                return None
            if round(said * NANO) != owed:
                return None
    return True


def test_what_an_audit_takes_back_the_budgets_take_back(tmp_path: Path) -> None:
    """The tokens of those who left were estimated too high."""
    with LiveWorker(["tiny@v1"]) as timed, LiveWorker(["tiny@v2"]) as priced:
        settings = written(timed, priced, metering={"readings": "200ms"})
        with GatewayProcess(tmp_path, settings, program=program(tmp_path)) as gateway:
            gateway.wait_up()
            for key, leaves, fields in requests()[:26]:
                ask(gateway, key, leaves, fields)

            def lowered() -> bool | None:
                with closing(sqlite3.connect(f"file:{tmp_path / 'ledger.db'}?mode=ro", uri=True)) as ledger:
                    (taken_back,) = ledger.execute(
                        "SELECT SUM(cost_nanousd) FROM entries WHERE correction > 0"
                    ).fetchone()
                    return (taken_back or 0) < 0 or None

            eventually(lowered, "an audit has found less", 15.0)
            eventually(lambda: agree(gateway), "the budgets are the ledger's sums", 20.0)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_budget_is_the_ledger_s_sum(processes: int, tmp_path: Path) -> None:
    with LiveWorker(["tiny@v1"]) as timed, LiveWorker(["tiny@v2"]) as priced:
        priced.behave(cached_tokens=3)
        server = {"host": "127.0.0.1", "port": 4000, "drain_seconds": 5, "processes": processes}
        with GatewayProcess(tmp_path, written(timed, priced, server=server)) as gateway:
            gateway.wait_up()
            timed.behave(header_delay=0.5)
            with ThreadPoolExecutor(6) as pool:
                list(pool.map(lambda args: ask(gateway, *args), hedged()))
                timed.behave(cached_tokens=3, pace=0.001)
                list(pool.map(lambda args: ask(gateway, *args), requests()[:39]))
            eventually(lambda: timed.active == priced.active == 0 or None, "nothing runs")
            eventually(lambda: agree(gateway), "the budgets are the ledger's sums", 20.0)
            outcomes = {row["outcome"] for row in gateway.all_rows()}
            assert outcomes >= {"ok", "aborted", "broken", "failed", "rejected"}
            if processes == 1:  # each has a cache, and a measure for hedging, of its own
                assert outcomes >= {"cached", "hedged"}


def test_a_killed_gateway_s_budgets_are_the_ledger_s_sum_soon(tmp_path: Path) -> None:
    """It had streams under way: they are in the ledger up to their last checkpoint."""
    with LiveWorker(["tiny@v1"]) as timed, LiveWorker(["tiny@v2"]) as priced:
        gateway = GatewayProcess(tmp_path, written(timed, priced), program=program(tmp_path))
        with gateway:
            gateway.wait_up()
            for key, leaves, fields in requests()[:6]:
                ask(gateway, key, leaves, fields)
            with ExitStack() as streams:
                for key, model in ENDLESS:
                    client = streams.enter_context(RawClient(gateway.port))
                    client.send(post("/v1/chat/completions", endless(model), f"authorization: Bearer {key}"))
                    client.read_until(b" same")
                gateway.stop(signal.SIGKILL)
            gateway.start()
            gateway.wait_up()
            for key in (KEY, OTHER_KEY):
                ask(gateway, key, False, {"model": "tiny@v2"})

            def all_are_there() -> bool | None:
                crashed = [row for row in gateway.all_rows() if row["outcome"] == "crashed"]
                return len(crashed) == len(ENDLESS) or None

            eventually(all_are_there, "what was under way is in the ledger", 10.0)
            eventually(lambda: agree(gateway), "the budgets are the ledger's sums", 20.0)


def endless(model: str) -> bytes:
    fields = {"model": model, "messages": MESSAGES, "stream": True, "standin": {"tokens": 9_999, "pace": 0.005}}
    return json.dumps(fields).encode()
