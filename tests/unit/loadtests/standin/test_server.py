"""The stand-in as an object: what it records, what can be waited for, how connections live and die."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.standin import Behaviour, Standin
from tests.unit.loadtests.client import Client, dialogue

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hi"}]}
ROOT = Path(__file__).parents[4]


@dialogue
async def test_requests_are_recorded_as_they_arrived() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        await client.ask("/health", method="GET")
        await client.ask(CHAT + "?x=1", HELLO, headers={"X-Seen": "Yes"})
        (seen,) = worker.requests_seen
        assert (seen.method, seen.path, seen.headers["x-seen"]) == ("POST", CHAT, "Yes")
        assert json.loads(seen.body) == HELLO
        assert worker.requests[-1].outcome == "answered"


@dialogue
async def test_the_record_is_bounded() -> None:
    async with Standin(record=2) as worker, Client(worker.port) as client:
        for number in range(4):
            await client.ask(CHAT, HELLO | {"user": str(number)})
        assert [json.loads(seen.body)["user"] for seen in worker.requests_seen] == ["2", "3"]


@dialogue
async def test_a_client_that_leaves_mid_stream_is_an_abort_with_its_tokens_counted() -> None:
    async with Standin(behaviour=Behaviour(tokens=1000, pace=0.01)) as worker:
        async with Client(worker.port) as client:
            client.send(CHAT, HELLO | {"stream": True})
            await client.head()
            for _ in range(3):
                await client.chunk()
            assert worker.active == 1
        await worker.wait_for(aborted=1)
        await worker.wait_idle()
        assert worker.requests[-1].outcome == "aborted"
        assert 2 <= worker.requests[-1].tokens < 1000
        assert worker.metrics.generation_tokens == worker.requests[-1].tokens
        assert worker.metrics.finished["abort"] == 1


@pytest.mark.parametrize("delay", ["header_delay", "first_token_delay", "pace"])
@pytest.mark.parametrize("stream", [False, True])
@dialogue
async def test_what_is_released_is_answered_at_once_and_what_comes_later_waits_again(delay: str, stream: bool) -> None:
    async with Standin(behaviour=Behaviour(**{delay: 600.0})) as worker, Client(worker.port) as client:
        for _ in range(2):
            asking = asyncio.create_task(client.ask(CHAT, HELLO | {"stream": stream}))
            await worker.wait_for(active=1)
            worker.release()
            assert (await asking).status == 200
        assert worker.requests[-1].tokens == 16


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("pace", [0, 0.001])
@dialogue
async def test_a_whole_stream_counts_all_its_tokens_the_silent_last_one_too(path: str, pace: float) -> None:
    async with Standin(behaviour=Behaviour(tokens=4, pace=pace)) as worker, Client(worker.port) as client:
        await client.ask(path, HELLO | {"input": "hi", "max_tokens": 9, "stream": True})
        await worker.wait_for(finished=1)
        assert worker.metrics.generation_tokens == worker.requests[-1].tokens == 4


@dialogue
async def test_a_client_that_leaves_before_the_headers_is_an_abort() -> None:
    async with Standin(behaviour=Behaviour(header_delay=100)) as worker:
        async with Client(worker.port) as client:
            client.send(CHAT, HELLO)
            await worker.wait_for(active=1)
        await worker.wait_for(aborted=1)


@dialogue
async def test_waiting_in_vain_says_what_was_there() -> None:
    async with Standin() as worker:
        with pytest.raises(TimeoutError, match="now active 0, aborted 0, finished 0"):
            await worker.wait_for(active=1, within=0.01)


@dialogue
async def test_many_requests_share_one_connection() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        for _ in range(3):
            assert (await client.ask(CHAT, HELLO)).status == 200
            assert (await client.ask(CHAT, HELLO | {"stream": True})).status == 200
        assert len(worker.connections) == 1
        assert worker.finished == 6


@dialogue
async def test_pipelined_requests_are_answered_in_order() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        client.send("/v1/completions", {"prompt": "x", "standin": {"header_delay": 0.02, "tokens": 1}})
        client.send("/v1/completions", {"prompt": "x", "standin": {"tokens": 2}})
        for tokens in (1, 2):
            head = await client.head()
            document = json.loads(await client.reader.readexactly(int(head.headers["content-length"])))
            assert document["usage"]["completion_tokens"] == tokens


@dialogue
async def test_connection_close_is_honoured() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        reply = await client.ask(CHAT, HELLO, headers={"connection": "close"})
        assert reply.headers["connection"] == "close"
        assert await client.rest() == b""


@dialogue
async def test_idle_connections_can_be_closed_at_a_chosen_moment() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        await client.ask(CHAT, HELLO)
        assert worker.close_idle() == 1
        assert await client.rest() == b""


@dialogue
async def test_idle_connections_close_after_the_keep_alive_time() -> None:
    async with Standin(keep_alive=0.01) as worker, Client(worker.port) as client:
        await client.ask(CHAT, HELLO)
        assert await client.rest() == b""


@dialogue
async def test_what_is_not_http_gets_a_400() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        client.writer.write(b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


@dialogue
async def test_a_large_body_arrives_whole() -> None:
    async with Standin(context=10**8) as worker, Client(worker.port) as client:
        reply = await client.ask("/v1/completions", {"prompt": "x" * 3_000_000})
        assert json.loads(reply.body)["usage"]["prompt_tokens"] == 3_000_000


@dialogue
async def test_a_slow_reader_holds_back_a_long_burst() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        client.send(CHAT, HELLO | {"stream": True, "standin": {"tokens": 30_000}})
        await client.head()
        (connection,) = worker.connections
        assert connection.transport.get_write_buffer_size() < 1_000_000
        while await client.chunk():
            pass
        await worker.wait_for(finished=1)


@dialogue
async def test_unhealthy_says_503_and_goes_on_answering() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        worker.engine.healthy = False
        assert (await client.ask("/health", method="GET")).status == 503
        assert (await client.ask(CHAT, HELLO)).status == 200


def test_as_a_process_it_says_when_it_listens_and_stops_when_told() -> None:
    command = [sys.executable, "-m", "loadtests.standin", "--model", "a,b", "--adapter", "c", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ) as process:
        assert process.stdout
        word, port = process.stdout.readline().split()
        assert word == "ready"

        async def names() -> list[str]:
            async with Client(int(port)) as client:
                return [card["id"] for card in json.loads((await client.ask("/v1/models", method="GET")).body)["data"]]

        assert asyncio.run(names()) == ["a", "b", "c"]
        process.terminate()
        assert process.wait(10) == 0
