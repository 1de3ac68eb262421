"""The load generator against the stand-in: what it counts, and that nothing bad is counted as good."""

from __future__ import annotations

import asyncio

import pytest

from loadtests.client import DONE, Connection, Exchange, Target, chat_request, connect, post
from loadtests.drive import closed_loop, idle_streams, open_loop, paced_streams
from loadtests.standin import Behaviour, Standin
from tests.unit.loadtests.client import dialogue


def plain(worker: Standin, *, stream: bool = False, tokens: int = 100) -> tuple[Target, bytes]:
    target = Target(worker.url, (("authorization", "Bearer k"),))
    return target, chat_request(target, "standin", stream=stream, tokens=tokens)


@dialogue
async def test_requests_carry_headers_and_body() -> None:
    async with Standin() as worker:
        target, request = plain(worker)
        await closed_loop(target, request, connections=1, seconds=0.02, warmup=0.0)
        seen = worker.requests_seen[0]
        assert seen.headers["authorization"] == "Bearer k"
        assert seen.path == "/v1/chat/completions"
        assert 250 <= len(seen.body) <= 400


@dialogue
async def test_closed_loop_keeps_every_connection_busy_and_counts_the_answers() -> None:
    async with Standin(behaviour=Behaviour(header_delay=0.01)) as worker:
        target, request = plain(worker)
        run = await closed_loop(target, request, connections=4, seconds=0.2, warmup=0.05)
        assert not run.errors
        assert 4 <= run.requests <= worker.finished
        assert run.latency.count == run.requests
        assert run.latency.p50 >= 0.01
        assert len({id(connection) for connection in worker.connections}) <= 4
        await worker.wait_idle()


@dialogue
async def test_refusals_are_errors_and_not_throughput() -> None:
    async with Standin(behaviour=Behaviour(fault="refuse", status=503)) as worker:
        target, request = plain(worker)
        run = await closed_loop(target, request, connections=2, seconds=0.05, warmup=0.0)
        assert run.requests == 0
        assert set(run.errors) == {"status 503"}
        assert run.error_share == 1.0


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (Behaviour(fault="die", after=3), "connection lost"),
        (Behaviour(fault="hang_up"), "connection lost"),
        (Behaviour(fault="garbage"), "not HTTP"),
        (Behaviour(fault="bad_chunk", after=2), "not HTTP"),
    ],
)
@dialogue
async def test_broken_streams_are_errors(behaviour: Behaviour, error: str) -> None:
    async with Standin(behaviour=behaviour) as worker:
        target, request = plain(worker, stream=True)
        run = await closed_loop(target, request, connections=1, seconds=0.05, warmup=0.0, streams=True)
        assert run.requests == 0
        assert [name for name in run.errors if name.startswith(error)]


@dialogue
async def test_a_stream_that_ends_without_done_is_an_error() -> None:
    async with Standin() as worker:
        target, request = plain(worker)  # a document is no stream
        run = await closed_loop(target, request, connections=1, seconds=0.05, warmup=0.0, streams=True)
        assert (run.requests, set(run.errors)) == (0, {"stream without [DONE]"})


@dialogue
async def test_what_is_never_answered_is_counted_when_patience_ends() -> None:
    async with Standin(behaviour=Behaviour(fault="silent")) as worker:
        target, request = plain(worker)
        run = await closed_loop(target, request, connections=3, seconds=0.02, warmup=0.0, grace=0.02)
        assert run.errors == {"no answer in time": 3}
        run = await open_loop(target, request, [0.0, 0.001], grace=0.02)
        assert run.errors == {"no answer in time": 2}
        await worker.wait_idle()


@dialogue
async def test_open_loop_counts_waiting_from_the_intended_start() -> None:
    async with Standin(behaviour=Behaviour(header_delay=0.03)) as worker:
        target, request = plain(worker)
        run = await open_loop(target, request, [0.0, 0.0, 0.0], connections=1)
        assert run.requests == 3
        assert run.latency.maximum >= 0.09  # the third waited for the two before it, though each took 0.03
        assert len(worker.requests) == 3


@dialogue
async def test_open_loop_does_not_wait_for_answers() -> None:
    async with Standin(behaviour=Behaviour(header_delay=0.1)) as worker:
        target, request = plain(worker)
        loading = asyncio.create_task(open_loop(target, request, [0.0, 0.001, 0.002, 0.003]))
        await worker.wait_for(active=4)  # all four under way before the first is answered
        run = await loading
        assert (run.requests, dict(run.errors)) == (4, {})


@dialogue
async def test_stream_events_are_counted_also_of_streams_still_under_way() -> None:
    async with Standin(behaviour=Behaviour(tokens=100_000, pace=0.001)) as worker:
        target, request = plain(worker, stream=True, tokens=20_000)
        run = await closed_loop(target, request, connections=2, seconds=0.1, warmup=0.05, streams=True, grace=0.0)
        assert run.requests == 0
        assert run.events > 2


@dialogue
async def test_paced_streams_see_every_gap() -> None:
    async with Standin(behaviour=Behaviour(tokens=1000, pace=0.01)) as worker:
        target, request = plain(worker, stream=True, tokens=2000)
        run = await paced_streams(target, request, streams=5, ramp=0.05, settle=0.05, seconds=0.3)
        assert (run.requests, dict(run.errors)) == (5, {})
        assert run.gap.count == run.events - 5
        assert 0 < run.events <= worker.metrics.generation_tokens
        await worker.wait_for(aborted=5)


@dialogue
async def test_idle_streams_are_all_open_at_once() -> None:
    async with Standin(behaviour=Behaviour(tokens=10, pace=1000)) as worker:
        target, request = plain(worker, stream=True)
        loading = asyncio.create_task(idle_streams(target, request, streams=20, hold=0.05))
        await worker.wait_for(active=20)
        run = await loading
        assert (run.requests, dict(run.errors)) == (20, {})
        await worker.wait_for(aborted=20)


@dialogue
async def test_streams_that_never_begin_or_end_early_are_errors() -> None:
    async with Standin(behaviour=Behaviour(fault="stuck")) as worker:
        target, request = plain(worker, stream=True)
        run = await idle_streams(target, request, streams=2, hold=0.0, grace=0.02)
        assert (run.requests, dict(run.errors)) == (0, {"stream never began": 2})
        worker.behaviour = Behaviour(fault="die", after=1)
        run = await paced_streams(target, request, streams=2, ramp=0.0, settle=0.0, seconds=0.02, grace=0.02)
        assert (run.requests, dict(run.errors)) == (0, {"connection lost": 2})


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@dialogue
async def test_events_are_counted_right_however_the_bytes_are_cut(size: int) -> None:
    async with Standin(behaviour=Behaviour(tokens=5, fault="trickle", slice=size)) as worker:
        target, request = plain(worker, stream=True)
        done: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()

        def finished(connection: Connection, exchange: Exchange) -> None:
            done.set_result(exchange)

        connection = await connect(target, finished)
        connection.start(Exchange(0.0, event_times=[]), request)
        exchange = await done
        connection.abort()
        assert exchange.error is None
        assert exchange.events == 7  # role, five tokens, [DONE]
        assert len(exchange.event_times or ()) == 7
        assert exchange.tail == DONE


@dialogue
async def test_a_connection_the_server_closes_is_opened_again() -> None:
    async with Standin() as worker:
        target = Target(worker.url, (("connection", "close"),))
        request = chat_request(target, "standin", stream=False, tokens=4)
        run = await closed_loop(target, request, connections=2, seconds=0.1, warmup=0.0)
        assert (run.errors, run.requests > 4) == ({}, True)
        worker.behaviour = Behaviour(fault="close_after")  # and says nothing of it
        target, request = plain(worker)
        run = await open_loop(target, request, [0.0, 0.02, 0.04, 0.06], connections=1)
        assert (run.requests, dict(run.errors)) == (4, {})


@dialogue
async def test_a_server_that_is_gone_is_an_error_for_every_request() -> None:
    worker = Standin(behaviour=Behaviour(header_delay=0.02))
    await worker.__aenter__()
    target, request = plain(worker)
    loading = asyncio.create_task(open_loop(target, request, [0.0, 0.1, 0.1, 0.2], connections=2))
    await worker.wait_for(finished=1)
    await worker.__aexit__()
    run = await loading
    assert run.requests == 1
    assert run.errors.total() == 3
    assert [error for error in run.errors if error.startswith("no connection: ")]


@dialogue
async def test_what_is_due_in_the_warm_up_is_sent_and_not_counted() -> None:
    async with Standin() as worker:
        target, request = plain(worker)
        run = await open_loop(target, request, [0.0, 0.01, 0.06, 0.07], warmup=0.05)
        assert worker.finished == 4
        assert run.requests == 2
        assert [round(start, 3) for start in run.starts] == [0.01, 0.02]


@dialogue
async def test_each_request_may_be_another_and_its_usage_is_added_up() -> None:
    async with Standin(behaviour=Behaviour(cached_tokens=2)) as worker:
        target = Target(worker.url)
        made = [post(target, "/v1/completions", {"prompt": "x" * n, "max_tokens": n}) for n in (3, 5, 7)]
        run = await open_loop(target, lambda number: made[number], [0.0, 0.0, 0.0], connections=1, usage=True)
        assert run.tokens == {"prompt_tokens": 15, "completion_tokens": 15, "cached_tokens": 6}


@dialogue
async def test_the_gaps_of_open_streams_are_the_workers_pace() -> None:
    async with Standin(behaviour=Behaviour(tokens=5, pace=0.02)) as worker:
        target, request = plain(worker, stream=True)
        run = await open_loop(target, request, [0.0, 0.01], streams=True, gaps=True)
        assert run.events == 2 * 7
        assert 2 * 3 <= run.gap.count <= 2 * 5  # four pauses each, some seen as one on a busy machine
        assert run.gap.maximum >= 0.019


@dialogue
async def test_an_error_frame_in_a_200_is_no_answer() -> None:
    async with Standin(behaviour=Behaviour(fault="error_frame")) as worker:
        target, request = plain(worker, stream=True)
        run = await open_loop(target, request, [0.0], streams=True)
        assert (run.requests, dict(run.errors)) == (0, {"error event in a 200": 1})
