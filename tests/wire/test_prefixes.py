"""A long prompt that comes again goes to the worker that has its beginning in its cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.gateway_process import GatewayProcess, configuration
from tests.live_worker import LiveWorker

TEXT = "Once upon a time there was a worker that had read all of this before. " * 400


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 2, **more}


def test_a_repeated_prompt_lands_where_its_cache_is(tmp_path: Path) -> None:
    with LiveWorker() as one, LiveWorker() as two:
        workers = {"w0": one.url, "w1": two.url}
        with GatewayProcess(tmp_path, configuration(workers)) as gateway, gateway.client() as client:
            gateway.wait_up(*workers)

            def ask(text: str) -> str:
                answer = client.post("/v1/chat/completions", json=chat(text))
                assert answer.status_code == 200, answer.text
                return answer.headers["x-tollgate-worker"]

            for worker in (one, two):
                worker.behave(tokens=10_000, pace=0.02)
            body = chat("hi", stream=True, max_tokens=10_000)
            with client.stream("POST", "/v1/chat/completions", json=body) as stream:
                busy = stream.headers["x-tollgate-worker"]
                holds = ask(TEXT)
                assert holds != busy  # both were equal before
            for worker in (one, two):
                worker.behave()
            assert [ask(f"{TEXT} And then? {turn}") for turn in range(4)] == [holds] * 4
