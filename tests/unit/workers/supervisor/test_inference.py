"""Asking a worker for a real answer."""

from __future__ import annotations

import asyncio
import json

import httpx2 as httpx

from workers.engines.spec import Inference, LaunchSpec
from workers.supervisor.inference import Asking, client

SPEC = LaunchSpec(
    name="w",
    port=8101,
    command=("engine",),
    env={},
    health_path="/health",
    inference=Inference("/v1/completions", {"model": "m@v", "prompt": "Hello", "max_tokens": 1}),
)

Answer = httpx.Response | httpx.TransportError


def dialogue(*answers: Answer) -> tuple[list[str], list[str]]:
    """What was asked for until an inference was answered, and how each try before had gone."""
    paths: list[str] = []
    outcomes: list[str] = []

    async def run() -> None:
        waiting = iter(answers)

        def handle(request: httpx.Request) -> httpx.Response:
            paths.append(f"{request.method} {request.url}")
            if request.method == "GET":
                outcomes.append(asking.last)
            else:
                assert json.loads(request.content) == SPEC.inference.body
            answer = next(waiting)
            if isinstance(answer, httpx.TransportError):
                raise answer
            return answer

        async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
            asking = Asking(http, SPEC, every=0)
            await asking.until_answered()
        assert asking.last == ""

    asyncio.run(run())
    return paths, outcomes


def test_health_alone_is_not_enough() -> None:
    paths, _ = dialogue(httpx.Response(200), httpx.Response(200))
    assert paths == ["GET http://127.0.0.1:8101/health", "POST http://127.0.0.1:8101/v1/completions"]


def test_an_engine_that_still_loads_is_not_bothered_with_inferences() -> None:
    paths, outcomes = dialogue(
        httpx.ConnectError("connection refused"), httpx.Response(503), httpx.Response(200), httpx.Response(200)
    )
    assert [path.split()[0] for path in paths] == ["GET", "GET", "GET", "POST"]
    assert outcomes == ["it was not asked yet", "connection refused", "/health answered 503"]


def test_a_refused_inference_is_told_with_the_engines_words() -> None:
    ready = (httpx.Response(200), httpx.Response(200))
    _, outcomes = dialogue(httpx.Response(200), httpx.Response(404, text="no such model " + "x" * 999), *ready)
    assert outcomes[1].startswith("/v1/completions answered 404: no such model")
    assert len(outcomes[1]) < 300


def test_an_error_without_words_is_named() -> None:
    _, outcomes = dialogue(httpx.ReadTimeout(""), httpx.Response(200), httpx.Response(200))
    assert outcomes[1] == "ReadTimeout"


def test_no_proxy_comes_between() -> None:
    async def run() -> bool:
        async with client() as http:
            return http.trust_env

    assert asyncio.run(run()) is False
