"""The gateway before one worker of every engine it knows, each played by a stand-in that speaks as that engine does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import orjson
import pytest

from tests.gateway_process import GatewayProcess, configuration, worker_entry
from tests.live_worker import LiveWorker

ENGINES = ("vllm", "trtllm", "triton", "sglang", "tgi", "openai")
MESSAGES = [{"role": "user", "content": "hi"}]
BREAKS = ("trtllm", "triton")  # their streams end without a word


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, dict[str, LiveWorker]]]:
    """A model for each engine, so that a request's model says which it goes to."""
    workers = {engine: LiveWorker(models=[f"{engine}-model@v1"], engine=engine) for engine in ENGINES}
    for worker in workers.values():
        worker.__enter__()
    version = {"versions": {"v1": {"quantization": "fp8", "quality": 0.99}}}
    entries = [
        worker_entry(f"w-{engine}", worker.url, engine=engine, serves=f"{engine}-model@v1")
        for engine, worker in workers.items()
    ]
    written = configuration(
        entries,
        models={f"{engine}-model": {"context": 32768, **version} for engine in ENGINES},
        aliases={},
    )
    with GatewayProcess(tmp_path_factory.mktemp("engines"), written) as gateway:
        gateway.wait_up()
        yield gateway, workers
    for worker in workers.values():
        worker.__exit__(None, None, None)


def ask(gateway: GatewayProcess, engine: str, **more: Any) -> httpx2.Response:
    with gateway.client() as client:
        body = {"model": f"{engine}-model", "messages": MESSAGES, "max_tokens": 4, **more}
        return client.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize("engine", ENGINES)
def test_it_answers_whole_and_as_a_stream(engine: str, site: tuple[GatewayProcess, dict[str, LiveWorker]]) -> None:
    gateway, _ = site
    answer = ask(gateway, engine)
    assert (answer.status_code, answer.json()["model"]) == (200, f"{engine}-model")
    row = gateway.rows(answer.headers["x-request-id"])[-1]
    assert (row["outcome"], row["output_tokens"], row["estimated"]) == ("ok", 4, 0)
    answer = ask(gateway, engine, stream=True)
    assert answer.status_code == 200
    assert answer.text.rstrip().endswith("data: [DONE]")


@pytest.mark.parametrize("engine", ENGINES)
def test_its_overload_is_the_gateways(engine: str, site: tuple[GatewayProcess, dict[str, LiveWorker]]) -> None:
    gateway, workers = site
    workers[engine].behave(fault="refuse", status=503)
    try:
        answer = ask(gateway, engine)
    finally:
        workers[engine].behave()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"]


@pytest.mark.parametrize("engine", ENGINES)
def test_its_error_within_a_stream_has_one_shape(
    engine: str, site: tuple[GatewayProcess, dict[str, LiveWorker]]
) -> None:
    gateway, workers = site
    workers[engine].behave(fault="error_frame", after=4, status=503, pace=0.05)
    try:
        answer = ask(gateway, engine, stream=True)
    finally:
        workers[engine].behave()
    assert answer.status_code == 200, answer.text
    last = [line for line in answer.text.splitlines() if line.startswith("data: ")][-1]
    error = orjson.loads(last.removeprefix("data: "))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == ("worker_broke" if engine in BREAKS else "overloaded")


@pytest.mark.parametrize("engine", ENGINES)
def test_its_judgement_of_a_request_has_one_shape(
    engine: str, site: tuple[GatewayProcess, dict[str, LiveWorker]]
) -> None:
    answer = ask(site[0], engine, temperature=-1)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_all_but_the_hosted_one_tell_their_load(site: tuple[GatewayProcess, dict[str, LiveWorker]]) -> None:
    gateway, _ = site
    tell = {worker["engine"] for worker in gateway.admin("workers")["workers"] if worker["engine_load"] is not None}
    assert tell == set(ENGINES) - {"openai"}
