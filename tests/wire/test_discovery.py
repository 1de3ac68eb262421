"""Workers that are listed in a file, or stand behind a name, in front of real clients."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually, promised
from tests.gateway_process import GatewayProcess, configuration, worker_entry
from tests.live_worker import LiveWorker

SHOWS_WITHIN = 1.0
BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


def write(path: Path, urls: Sequence[str]) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_text(json.dumps(list(urls)))
    os.replace(fresh, path)


def up(gateway: GatewayProcess) -> list[str]:
    return [worker["name"] for worker in gateway.admin("workers")["workers"] if worker["up"]]


@pytest.mark.timeout(60)
def test_workers_come_and_go_with_the_file_that_lists_them(tmp_path: Path) -> None:
    listed = tmp_path / "workers.json"
    with LiveWorker() as first, LiveWorker() as second:
        write(listed, [first.url])
        written = configuration([worker_entry("tiny", f"file://{listed}")], probe={"every": "30s", "wait": "5s"})
        with GatewayProcess(tmp_path / "site", written) as gateway, gateway.client() as client:
            gateway.wait_ready()
            one, other = (f"tiny-127.0.0.1-{worker.port}" for worker in (first, second))
            assert up(gateway) == [one]
            write(listed, [first.url, second.url])
            promised(lambda: len(up(gateway)) == 2 or None, "the second takes requests", 2 * SHOWS_WITHIN)
            assert sorted(up(gateway)) == sorted([one, other])

            first.behave(tokens=20, pace=0.1)
            body = {**BODY, "max_tokens": 20, "stream": True, "routing": {"only": [one]}}
            with client.stream("POST", "/v1/chat/completions", json=body) as stream:
                lines = stream.iter_lines()
                next(lines)
                write(listed, [second.url])
                eventually(lambda: up(gateway) == [other] or None, "the first is gone")
                assert client.post("/v1/chat/completions", json=BODY).status_code == 200
                text = list(lines)
            assert text[-2:] == ["data: [DONE]", ""]
            assert gateway.rows(stream.headers["x-request-id"])[-1]["worker"] == one
            assert gateway.metric("tollgate_discovery_found", worker="tiny") == 1
            assert gateway.metric("tollgate_worker_up", worker=other) == 1

            listed.write_text("nonsense")
            eventually(lambda: gateway.metric("tollgate_discovery_failing", worker="tiny") or None, "it says so")
            (looked,) = gateway.admin("workers")["discovery"]
            assert "has no list of URLs" in looked["error"]
            assert client.post("/v1/chat/completions", json=BODY).status_code == 200

            write(listed, [])
            eventually(lambda: client.get("/readyz").status_code == 503 or None, "nobody is left")
            assert client.post("/v1/chat/completions", json=BODY).status_code == 503


@pytest.mark.timeout(60)
def test_a_name_is_a_worker_for_each_of_its_addresses(tmp_path: Path) -> None:
    with LiveWorker() as worker:
        written = configuration([worker_entry("tiny", f"dns+http://localhost:{worker.port}")])
        with GatewayProcess(tmp_path, written) as gateway, gateway.client() as client:
            gateway.wait_ready()
            assert "tiny-127.0.0.1" in up(gateway)
            answer = client.post("/v1/chat/completions", json=BODY)
            assert answer.status_code == 200
            assert gateway.rows(answer.headers["x-request-id"])[-1]["worker"] == "tiny-127.0.0.1"
