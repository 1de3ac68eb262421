from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.workers.evaluation.stand_in import stand_in, text_answer
from workers.evaluation import client as module
from workers.evaluation.client import Client, Endpoint, NoAnswer, Refused


def test_what_is_asked_and_answered() -> None:
    async def scene(endpoint: Endpoint) -> None:
        async with Client(endpoint) as client:
            answer = await client.ask("/v1/completions", prompt="lone \ud800 surrogate", seed=1)
            assert answer["choices"][0]["text"] == "fine"
            assert await client.context() == 2048

    with stand_in(lambda path, body: (200, text_answer("fine"))) as server:
        asyncio.run(scene(server.endpoint))

    assert server.asked == [
        ("/v1/completions", {"model": "scribe", "prompt": "lone \ud800 surrogate", "seed": 1}),
    ]


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (400, {"error": {"message": "too long", "code": 400}}, "400: too long"),
        (503, {"error": "busy"}, "503: busy"),
        (422, {"message": "flat"}, "422: flat"),
        (500, b"Internal Server Error", "500: Internal Server Error"),
        (500, b"", "500: an empty answer"),
        (200, b"<html>", "200: <html>"),
        (200, [1], "200: [1]"),
    ],
)
def test_a_refusal_says_what_the_endpoint_said(status: int, body: object, says: str) -> None:
    async def scene(endpoint: Endpoint) -> None:
        async with Client(endpoint) as client:
            await client.ask("/v1/completions", prompt="x")

    with stand_in(lambda path, asked: (status, body)) as server, pytest.raises(Refused) as refused:
        asyncio.run(scene(server.endpoint))

    assert says in str(refused.value)
    assert refused.value.status == status


def test_a_request_that_was_cut_off_is_not_sent_twice() -> None:
    def cut(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
        raise ConnectionError

    async def scene(endpoint: Endpoint) -> None:
        async with Client(endpoint) as client:
            await client.ask("/v1/completions", prompt="x")

    with stand_in(cut) as server, pytest.raises(NoAnswer, match="was lost"):
        asyncio.run(scene(server.endpoint))

    assert len(server.asked) == 1


def test_a_connection_that_could_not_be_made_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"  # bound, but it does not listen

        async def scene() -> None:
            async with Client(Endpoint(url, "scribe")) as client:
                await client.get("/v1/models")

        with pytest.raises(NoAnswer, match="cannot be reached"):
            asyncio.run(scene())


def test_an_answer_that_does_not_come_is_not_waited_for_forever() -> None:
    over = threading.Event()

    def hang(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
        over.wait(60)
        return 200, {}

    async def scene(endpoint: Endpoint) -> None:
        async with Client(endpoint, answer_within=0.3) as client:
            await client.ask("/v1/completions", prompt="x")

    with stand_in(hang) as server:
        try:
            with pytest.raises(NoAnswer, match=r"within 0\.3 s"):
                asyncio.run(scene(server.endpoint))
        finally:
            over.set()


def test_results_are_in_order_and_no_more_run_at_a_time_than_there_is_room_for() -> None:
    running, most = 0, 0

    async def scene() -> list[int]:
        async def ask(item: int) -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            for _ in range(item % 3):
                await asyncio.sleep(0)
            running -= 1
            return item * item

        nonlocal most
        async with Client(Endpoint("http://127.0.0.1:9", "x"), concurrency=4) as client:
            assert await client.each(range(9), ask, alone=True) == [item * item for item in range(9)]
            assert most == 1
            assert await client.each([], ask) == []
            return await client.each(range(50), ask)

    assert asyncio.run(scene()) == [item * item for item in range(50)]
    assert most == 4


def test_the_first_failure_ends_the_rest() -> None:
    done: list[int] = []

    async def scene() -> None:
        async def ask(item: int) -> None:
            if item == 3:
                raise NoAnswer("gone")
            await asyncio.sleep(0)
            done.append(item)

        async with Client(Endpoint("http://127.0.0.1:9", "x"), concurrency=2) as client:
            await client.each(range(1000), ask)

    with pytest.raises(NoAnswer, match="gone"):
        asyncio.run(scene())
    assert len(done) < 10
