"""Budgets of two real gateways on a real Redis: both say what the ledger says, and one that is killed owes no more than
it has there."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.gateway_process import GatewayProcess
from tests.live_worker import LiveWorker
from tests.redis.conftest import RedisServer
from tests.wire.raw import RawClient, post
from tests.wire.test_budgets import ENDLESS, agree, endless, program, written
from tests.wire.test_sums import ask, requests

pytestmark = pytest.mark.redis


def test_gateways_that_share_a_redis_agree_with_their_ledger(tmp_path: Path, redis_server: RedisServer) -> None:
    with LiveWorker(["tiny@v1"]) as timed, LiveWorker(["tiny@v2"]) as priced, ExitStack() as ends:
        timed.behave(cached_tokens=3, pace=0.001)
        ledger = f"sqlite:///{tmp_path / 'one' / 'ledger.db'}"
        gateways: list[GatewayProcess] = []
        for name in ("one", "two"):
            metering = {"readings": "1h", "journal": str(tmp_path / name / "journal")}
            settings = written(timed, priced, state=redis_server.url, ledger=ledger, metering=metering)
            (tmp_path / name).mkdir()
            gateways.append(GatewayProcess(tmp_path / name, settings, program=program(tmp_path / name)))
            ends.enter_context(gateways[-1])
        one, two = gateways
        for gateway in gateways:
            gateway.wait_up()
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda at: ask(gateways[at % 2], *requests()[at]), range(26)))
        for gateway in gateways:
            eventually(lambda gateway=gateway: agree(gateway, one), "the budgets are the ledger's sums", 20.0)
        for key, model in ENDLESS:
            client = ends.enter_context(RawClient(two.port))
            client.send(post("/v1/chat/completions", endless(model), f"authorization: Bearer {key}"))
            client.read_until(b" same")
        two.stop(signal.SIGKILL)
        ask(one, *requests()[0])
        two.start()
        two.wait_up()
        for key, _ in ENDLESS:
            ask(two, key, False, {"model": "tiny@v2"})

        def all_are_there() -> bool | None:
            return len([row for row in one.all_rows() if row["outcome"] == "crashed"]) == len(ENDLESS) or None

        eventually(all_are_there, "what was under way is in the ledger", 10.0)
        for gateway in gateways:
            eventually(lambda gateway=gateway: agree(gateway, one), "the budgets are the ledger's sums", 20.0)
