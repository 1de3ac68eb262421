"""A worker with a bounded capacity: so many at once, the rest in its queue, and counters that say so."""

from __future__ import annotations

import asyncio
import json

import pytest

from loadtests.standin import Behaviour, Standin
from tests.unit.loadtests.client import Client, dialogue

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hi"}]}
FOREVER = Behaviour(first_token_delay=1000)


async def gauges(worker: Standin) -> tuple[float, float]:
    """Running and waiting, as a probe sees them."""
    async with Client(worker.port) as client:
        lines = (await client.ask("/metrics", method="GET")).body.decode().splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    names = ("running", "waiting")
    running, waiting = (
        float(samples[f'vllm:num_requests_{name}{{engine="0",model_name="standin"}}']) for name in names
    )
    return running, waiting


def histogram(worker: Standin, name: str) -> tuple[int, float]:
    worker.metrics.text("m", 0)
    found = getattr(worker.metrics, name)
    return sum(found.counts), found.sum


@pytest.mark.parametrize("stream", [False, True])
@dialogue
async def test_who_finds_no_seat_waits_and_is_counted_as_waiting(stream: bool) -> None:
    async with Standin(max_running=2, behaviour=FOREVER) as worker:
        clients = [Client(worker.port) for _ in range(5)]
        for number, client in enumerate(clients, 1):
            await client.__aenter__()
            client.send(CHAT, HELLO | {"stream": stream})
            await worker.wait_for(active=number)
        assert worker.active == 5
        assert await gauges(worker) == (2, 3)
        for client in clients:
            await client.__aexit__()
        await worker.wait_idle()
        assert await gauges(worker) == (0, 0)


@dialogue
async def test_turns_come_in_the_order_of_arrival() -> None:
    async with Standin(max_running=1, behaviour=FOREVER) as worker:
        order: list[int] = []

        async def one(number: int) -> None:
            async with Client(worker.port) as client:
                await client.ask(CHAT, HELLO | {"standin": {"first_token_delay": 0.01}})
                order.append(number)

        async with Client(worker.port) as first:
            first.send(CHAT, HELLO)
            await worker.wait_for(active=1)
            waiting: list[asyncio.Task[None]] = []
            for number in range(5):
                waiting.append(asyncio.create_task(one(number)))
                await worker.wait_for(active=number + 2)
        await asyncio.gather(*waiting)
        assert order == [0, 1, 2, 3, 4]


@dialogue
async def test_a_client_that_leaves_the_queue_or_its_seat_makes_room() -> None:
    async with Standin(max_running=1, behaviour=FOREVER) as worker, Client(worker.port) as last:
        async with Client(worker.port) as seated:
            seated.send(CHAT, HELLO)
            await worker.wait_for(active=1)
            async with Client(worker.port) as queued:
                queued.send(CHAT, HELLO)
                await worker.wait_for(active=2)
                last.send(CHAT, HELLO | {"standin": {"first_token_delay": 0}})
                await worker.wait_for(active=3)
            await worker.wait_for(aborted=1)
            assert await gauges(worker) == (1, 1)
        assert (await last.head()).status == 200
        await worker.wait_for(finished=1)
        assert (worker.aborted, worker.engine.running) == (2, 0)


@dialogue
async def test_a_stream_has_its_headers_before_its_turn() -> None:
    async with Standin(max_running=1, behaviour=FOREVER) as worker, Client(worker.port) as queued:
        async with Client(worker.port) as seated:
            seated.send(CHAT, HELLO)
            await worker.wait_for(active=1)
            queued.send(CHAT, HELLO | {"stream": True, "standin": {"first_token_delay": 0}})
            assert (await queued.head()).status == 200
            assert await gauges(worker) == (1, 1)
        assert (await queued.chunk()).startswith(b"data: ")


@dialogue
async def test_the_queue_can_be_bounded() -> None:
    async with (
        Standin(max_running=1, max_queued=1, behaviour=FOREVER) as worker,
        Client(worker.port) as seated,
        Client(worker.port) as queued,
        Client(worker.port) as refused,
    ):
        for number, client in enumerate((seated, queued), 1):
            client.send(CHAT, HELLO)
            await worker.wait_for(active=number)
        reply = await refused.ask(CHAT, HELLO)
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (503, 503)
        assert await gauges(worker) == (1, 1)


@dialogue
async def test_the_time_in_the_queue_is_in_the_histograms() -> None:
    async with Standin(max_running=1) as worker:

        async def one() -> None:
            async with Client(worker.port) as client:
                await client.ask(CHAT, HELLO | {"standin": {"first_token_delay": 0.05}})

        await asyncio.gather(one(), one())
        count, waited = histogram(worker, "queue_time")
        assert count == 2
        assert waited >= 0.045
        count, first = histogram(worker, "time_to_first_token")
        assert count == 2
        assert first >= 0.1 + waited - 0.001
        assert histogram(worker, "prefill_time")[1] == pytest.approx(0.1)


@dialogue
async def test_a_worker_that_runs_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Standin(max_running=0)


@dialogue
async def test_capacity_is_seats_over_service_time() -> None:
    async with Standin(max_running=4, behaviour=Behaviour(first_token_delay=0.02)) as worker:

        async def one() -> None:
            async with Client(worker.port) as client:
                await client.ask(CHAT, HELLO)

        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.gather(*(one() for _ in range(20)))
        assert loop.time() - start >= 5 * 0.02 * 0.99  # twenty in rounds of four; slower is the machine's affair
        assert worker.finished == 20
