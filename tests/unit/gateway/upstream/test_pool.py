"""Connections to one worker over real sockets: opened, kept, lost, bounded, closed."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from gateway.errors import Overloaded, WorkerBroke, WorkerTimeout, WorkerUnreachable
from gateway.table import Timeout
from gateway.upstream.connection import READ_BYTES
from gateway.upstream.pool import Pool
from gateway.upstream.response import PAUSE_ABOVE_BYTES, Response
from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.upstream.loopback import (
    CHUNKED,
    JSON,
    PATIENT,
    Peer,
    Script,
    Worker,
    answer,
    ask,
    chunk,
    post,
    until,
)

MEGABYTE = 1024 * 1024


def one_read() -> int:
    """The most that one read brings: asyncio's own loop reads by a measure of its own."""
    return READ_BYTES if isinstance(asyncio.get_running_loop(), uvloop.Loop) else 256 * 1024


@asynccontextmanager
async def served(*scripts: Script, **pool_options: Any) -> AsyncIterator[tuple[Worker, Pool]]:
    """A worker and a pool to it; afterwards the pool is closed and has kept nothing."""
    async with Worker(*scripts) as worker:
        pool = Pool(worker.url, **pool_options)
        try:
            yield worker, pool
        finally:
            await pool.close()
        await until(lambda: pool.connections == 0)


def armed_timers() -> int | None:
    """Timers that still run, where the loop tells; our own time limit of the test is one of them."""
    scheduled = getattr(asyncio.get_running_loop(), "_scheduled", None)
    return None if scheduled is None else sum(not handle.cancelled() for handle in scheduled)


async def serve_forever(peer: Peer) -> None:
    try:
        while True:
            await peer.answer()
    except asyncio.IncompleteReadError:
        return


# One exchange


@dialogue
async def test_a_request_goes_out_as_it_should_and_its_answer_comes_back() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(
            b'{"a":1}', b"Content-Type: application/json", b"X-Twice: 1", b"x-twice: 2", status=b"201 Made"
        )
        await peer.gone()

    async with served(script, api_key="secret") as (worker, pool):
        response = await pool.request("/v1/embeddings", JSON, b'{"m":2}', b"x-request-id: r1\r\n", PATIENT)
        assert (response.status, await response.read(100)) == (201, b'{"a":1}')
        assert response.header(b"content-type") == b"application/json"
        assert response.header(b"x-twice") == b"1"
        assert response.header(b"missing") is None
        (asked,) = worker.peers[0].asked
        assert asked.line == "POST /v1/embeddings HTTP/1.1"
        assert asked.headers == [
            ("host", f"127.0.0.1:{worker.port}"),
            ("authorization", "Bearer secret"),
            ("x-request-id", "r1"),
            ("content-type", "application/json"),
            ("content-length", "7"),
        ]
        assert asked.body == b'{"m":2}'


@dialogue
async def test_a_connection_is_used_again() -> None:
    async with served(serve_forever) as (worker, pool):
        for _ in range(5):
            assert await ask(pool) == b"ok"
        assert len(worker.peers) == 1
        assert len(worker.peers[0].asked) == 5
        assert worker.peers[0].asked[0].header("authorization") == []


@dialogue
async def test_a_connection_that_the_worker_will_close_is_not() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(b"ok", b"connection: close")
        await peer.gone()

    async with served(script) as (worker, pool):
        assert [await ask(pool), await ask(pool)] == [b"ok", b"ok"]
        assert len(worker.peers) == 2


@dialogue
async def test_the_newest_connection_goes_first_so_that_the_others_can_age() -> None:
    turn = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            await turn.wait()
        peer.say(answer(b"%d" % peer.number))
        await serve_forever(peer)

    async with served(script) as (worker, pool):
        first = asyncio.create_task(ask(pool))
        await worker.arrival()
        assert await ask(pool) == b"1"
        turn.set()
        assert await first == b"0"
        await ask(pool)
        assert [len(peer.asked) for peer in worker.peers] == [2, 1]


@dialogue
async def test_a_large_request_arrives_whole() -> None:
    body = bytes(range(256)) * 4096 * 8

    async with served(serve_forever) as (worker, pool):
        assert await ask(pool, body) == b"ok"
        assert worker.peers[0].asked[0].body == body


@dialogue
async def test_a_body_that_ends_with_the_connection_is_whole() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    async with served(script) as (_, pool):
        assert await ask(pool) == b"all of it"


@dialogue
async def test_a_stream_is_piped_read_by_read_and_in_order() -> None:
    heard = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(CHUNKED + chunk(b"first "))
        for piece in (b"second ", b"third "):
            await heard.wait()
            heard.clear()
            peer.say(chunk(piece))
        await heard.wait()
        peer.say(b"0\r\n\r\n")
        await peer.gone()

    got: list[bytes] = []

    def sink(data: bytes) -> None:
        got.append(data)
        heard.set()

    async with served(script) as (_, pool):
        response = await post(pool)
        assert await response.take() == b"first "
        heard.set()
        await response.pipe(sink)
        assert got == [b"second ", b"third "]
        assert response.complete
        await response.pipe(sink)
        assert await response.take() == b""
        assert len(got) == 2


# Addresses


@pytest.mark.parametrize(
    ("suffix", "path", "target"),
    [
        ("", "/v1/chat/completions", "/v1/chat/completions"),
        ("/", "/v1/chat/completions", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/", "/v1/embeddings", "/v1/embeddings"),
        ("/openai/v1", "/v1/embeddings", "/openai/v1/embeddings"),
        ("/team-a", "/v1/embeddings", "/team-a/v1/embeddings"),
        ("", "/tokenize", "/tokenize"),
    ],
)
@dialogue
async def test_the_path_of_a_base_url_comes_before_that_of_the_endpoint(suffix: str, path: str, target: str) -> None:
    async with Worker(serve_forever) as worker:
        pool = Pool(worker.url + suffix)
        for _ in range(2):
            response = await pool.request(path, JSON, b"{}", b"", PATIENT)
            assert await response.read(10) == b"ok"
        await pool.close()
        assert {asked.line for asked in worker.peers[0].asked} == {f"POST {target} HTTP/1.1"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:80",
        "ftp://h",
        "http://",
        "http:///v1",
        "http://h:0x1",
        "http://h:99999",
        "http://h/ä",
        "http://h/a b",
        "http://h/\r\nx: y",
    ],
)
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"not an http|[Pp]ort"):
        Pool(url)


def test_credentials_in_an_address_are_not_sent_as_host() -> None:
    assert b"host: h:81\r\n" in Pool("http://user:word@h:81")._fixed_headers


@dialogue
async def test_ipv6() -> None:
    try:
        worker = await Worker(serve_forever, host="::1").__aenter__()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    pool = Pool(worker.url)
    assert await ask(pool) == b"ok"
    assert worker.peers[0].asked[0].header("host") == [f"[::1]:{worker.port}"]
    await pool.close()
    await worker.__aexit__(None)


# No connection


@contextmanager
def deaf() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel answers no further one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            yield port


@dialogue
async def test_a_closed_port_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        pool = Pool(f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(WorkerUnreachable, match="could not be reached"):
            await ask(pool)
        assert pool.connections == 0


@dialogue
async def test_a_name_that_is_none_is_unreachable() -> None:
    pool = Pool("http://no..such.name:80")
    with pytest.raises(WorkerUnreachable):
        await ask(pool)


@dialogue
async def test_connecting_has_its_own_time_limit() -> None:
    with deaf() as port:
        pool = Pool(f"http://127.0.0.1:{port}")
        with pytest.raises(WorkerUnreachable, match="in time"):
            await ask(pool, deadlines=replace(PATIENT, connect=0.05))
        assert pool.connections == 0


@dialogue
async def test_a_request_cancelled_while_it_connects_leaves_nothing() -> None:
    before = armed_timers()
    with deaf() as port:
        pool = Pool(f"http://127.0.0.1:{port}", max_connections=1)
        for _ in range(3):
            task = asyncio.create_task(ask(pool))
            await until(lambda: pool.connections == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.connections == 0
    assert armed_timers() == before


def test_a_connection_lost_before_it_is_used_is_not_counted() -> None:
    async def story() -> None:
        async with Worker(serve_forever) as worker:
            loop = asyncio.get_running_loop()
            create_connection = loop.create_connection

            async def lost_at_once(*args: Any, **kwargs: Any) -> Any:
                transport, connection = await create_connection(*args, **kwargs)
                transport.abort()
                await until(lambda: connection._transport is None)
                return transport, connection

            loop.create_connection = lost_at_once
            pool = Pool(worker.url)
            with pytest.raises(WorkerUnreachable):
                await ask(pool)
            assert pool.connections == 0

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:  # the kind of loop that can be meddled with
        runner.run(story())


@dialogue
async def test_a_process_without_descriptors_blames_no_worker() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Worker(serve_forever) as worker:
        pool = Pool(worker.url)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # what is open stays open
        try:
            with pytest.raises(Overloaded):
                await ask(pool)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert pool.connections == 0
        assert await ask(pool) == b"ok"
        await pool.close()


@dialogue
async def test_at_the_limit_of_connections_the_worker_is_overloaded() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        peer.say(answer(b"late"))
        await serve_forever(peer)

    async with served(script, max_connections=2) as (worker, pool):
        busy = [asyncio.create_task(ask(pool)) for _ in range(2)]
        await until(lambda: sum(len(peer.asked) for peer in worker.peers) == 2)
        with pytest.raises(Overloaded) as caught:
            await ask(pool)
        assert caught.value.retry_after == 1.0
        go.set()
        assert await asyncio.gather(*busy) == [b"late", b"late"]
        assert await ask(pool) == b"ok"


@dialogue
async def test_a_connection_too_old_to_use_makes_room_for_a_fresh_one() -> None:
    async with served(serve_forever, max_connections=1, idle_seconds=-1.0) as (worker, pool):
        for _ in range(3):
            assert await ask(pool) == b"ok"
        assert len(worker.peers) == 3


# Stale connections


@dialogue
async def test_a_connection_the_worker_closed_while_idle_is_not_used() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()

    async with served(script) as (worker, pool):
        for _ in range(3):
            assert await ask(pool) == b"ok"
            await until(lambda: pool.connections == 0)
        assert [len(peer.asked) for peer in worker.peers] == [1, 1, 1]


@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
@dialogue
async def test_a_connection_that_went_stale_is_replaced_once(end: Any) -> None:
    async def stale(peer: Peer) -> None:
        await peer.answer()
        await peer.request()
        end(peer)

    async with served(stale, serve_forever) as (worker, pool):
        assert await ask(pool) == b"ok"
        assert await ask(pool, b"again") == b"ok"
        assert [[asked.body for asked in peer.asked] for peer in worker.peers] == [[b"{}", b"again"], [b"again"]]


@dialogue
async def test_a_fresh_connection_that_closes_without_an_answer_is_the_end() -> None:
    async def stale(peer: Peer) -> None:
        await peer.answer()
        await peer.request()

    async def mute(peer: Peer) -> None:
        await peer.request()

    async with served(stale, mute) as (worker, pool):
        assert await ask(pool) == b"ok"
        with pytest.raises(WorkerUnreachable, match="without an answer"):
            await ask(pool)
        assert [len(peer.asked) for peer in worker.peers] == [2, 1]
    async with served(mute) as (worker, pool):
        with pytest.raises(WorkerUnreachable, match="without an answer"):
            await ask(pool)
        assert len(worker.peers) == 1


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
@dialogue
async def test_a_request_is_not_repeated_once_the_answer_has_begun(said: bytes) -> None:
    async def stale(peer: Peer) -> None:
        await peer.answer()
        await peer.request()
        peer.say(said)

    async with served(stale) as (worker, pool):
        assert await ask(pool) == b"ok"
        with pytest.raises(WorkerBroke):
            await ask(pool)
        assert len(worker.peers) == 1


@dialogue
async def test_idle_connections_are_closed_after_their_time() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await asyncio.sleep(0.03)  # idle later than the first: not closed by the same sweep
        peer.say(answer(b"ok"))
        await peer.gone()

    async with served(script, idle_seconds=0.05) as (worker, pool):
        await asyncio.gather(ask(pool), ask(pool))
        await worker.left(0)
        await worker.left(1)
        await until(lambda: pool.connections == 0)


# Broken answers


@pytest.mark.parametrize(
    ("said", "arrived"),
    [
        (answer(b"0123456789")[:-4], b"012345"),
        (CHUNKED + chunk(b"0123") + b"5\r\n45", b"012345"),
        (CHUNKED + chunk(b"0123"), b"0123"),
        (CHUNKED + chunk(b"0123") + b"not a size\r\n", b"0123"),
    ],
)
@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
@dialogue
async def test_an_answer_cut_short_is_broken_after_what_arrived(said: bytes, arrived: bytes, end: Any) -> None:
    heard = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(said)
        await heard.wait()
        end(peer)

    async with served(script) as (_, pool):
        response = await post(pool)
        got: list[bytes] = []

        def sink(data: bytes) -> None:
            got.append(data)
            heard.set()

        with pytest.raises(WorkerBroke):
            await response.pipe(sink)
        assert b"".join(got) == arrived
        for again in (response.pipe(sink), response.read(100), response.take()):
            with pytest.raises(WorkerBroke):
                await again


@dialogue
async def test_bytes_beyond_the_length_never_reach_the_next_request() -> None:
    async def long(peer: Peer) -> None:
        await peer.request()
        peer.say(answer(b"mine") + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nothers")
        await peer.gone()

    async with served(long, serve_forever) as (worker, pool):
        assert await ask(pool) == b"mine"
        assert await ask(pool) == b"ok"
        assert len(worker.peers) == 2


@dialogue
async def test_what_is_not_http_is_broken() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(b"\x16\x03\x01\x02\x00")
        await peer.gone()

    async with served(script) as (_, pool):
        with pytest.raises(WorkerBroke, match="not valid HTTP"):
            await ask(pool)


@dialogue
async def test_an_answer_longer_than_wanted_is_refused_and_dropped() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(answer(bytes(MEGABYTE)))
        await peer.gone()

    async with served(script) as (_, pool):
        response = await post(pool)
        with pytest.raises(WorkerBroke, match="longer than 1000 bytes"):
            await response.read(1000)
        assert pool.connections == 0 or not response.complete


@dialogue
async def test_a_short_answer_longer_than_wanted_is_refused_too() -> None:
    async with served(serve_forever) as (_, pool):
        response = await post(pool)
        with pytest.raises(WorkerBroke, match="longer than 1 bytes"):
            await response.read(1)
        assert await ask(pool) == b"ok"


# Deadlines


async def silent_after(peer: Peer, *said: bytes) -> None:
    await peer.request()
    for each in said:
        peer.say(each)
    await peer.gone()


NEVER = 1000.0


@pytest.mark.parametrize(
    ("said", "deadlines", "waited_for"),
    [
        ([], Timeout(first_token=0.05, idle=NEVER, total=NEVER), "first bytes"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], Timeout(first_token=0.05, idle=NEVER, total=NEVER), "first bytes"),
        ([CHUNKED], Timeout(first_token=0.05, idle=NEVER, total=NEVER), "first bytes"),
        ([CHUNKED, chunk(b"x")], Timeout(first_token=NEVER, idle=0.05, total=NEVER), "next bytes"),
        ([CHUNKED], Timeout(first_token=NEVER, idle=NEVER, total=0.05), "the end"),
        ([CHUNKED, chunk(b"x")], Timeout(first_token=NEVER, idle=NEVER, total=0.05), "the end"),
    ],
)
@dialogue
async def test_a_worker_that_falls_silent_is_given_up(said: list[bytes], deadlines: Timeout, waited_for: str) -> None:
    async def script(peer: Peer) -> None:
        await silent_after(peer, *said)

    before = armed_timers()
    async with served(script) as (_, pool):
        with pytest.raises(WorkerTimeout, match=waited_for):
            await ask(pool, deadlines=deadlines)
        await until(lambda: pool.connections == 0)
    assert armed_timers() == before


@dialogue
async def test_the_wait_for_the_first_token_is_not_cut_by_early_headers() -> None:
    """Engines send the head of a stream at once and the first token when its prompt's turn has come."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(CHUNKED)
        await asyncio.sleep(0.1)
        peer.say(chunk(b"x") + b"0\r\n\r\n")
        await peer.gone()

    async with served(script) as (_, pool):
        assert await ask(pool, deadlines=Timeout(first_token=NEVER, idle=0.01, total=NEVER)) == b"x"


@dialogue
async def test_a_worker_that_never_stops_talking_is_given_up_at_the_end_of_all_time() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(CHUNKED)
        leaving = asyncio.ensure_future(peer.gone())
        while not leaving.done():
            peer.say(chunk(b"x"))
            await asyncio.wait([leaving], timeout=0.005)
        await leaving

    async with served(script) as (_, pool):
        response = await post(pool, deadlines=Timeout(first_token=NEVER, idle=NEVER, total=0.1))
        with pytest.raises(WorkerTimeout, match="the end of the answer"):
            await response.pipe(lambda _: None)


# Backpressure


class Flood:
    """A worker that sends as much as the kernel takes, and counts it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sent = 0

    async def __call__(self, peer: Peer) -> None:
        raw: socket.socket = peer.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        peer.writer.transport.set_write_buffer_limits(high=0)
        await peer.request()
        peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % self.size)
        piece = bytes(64 * 1024)
        try:
            while self.sent < self.size:
                peer.say(piece)
                await peer.writer.drain()
                self.sent += len(piece)
            await peer.gone()
        except ConnectionError:
            return

    async def stalls(self) -> int:
        """Until nothing more is taken from it; how much was."""
        last = -1
        while self.sent != last:
            last = self.sent
            await asyncio.sleep(0.05)
        return last


@dialogue
async def test_an_answer_that_nobody_takes_is_held_only_in_part() -> None:
    flood = Flood(32 * MEGABYTE)
    async with served(flood) as (_, pool):
        response = await post(pool)
        assert await flood.stalls() < 16 * MEGABYTE  # what the kernel's own buffers take
        held = await response.take()
        assert 0 < len(held) <= PAUSE_ABOVE_BYTES + one_read()
        total = len(held) + len(await response.read(32 * MEGABYTE))
        assert total == flood.size


@dialogue
async def test_a_paused_pipe_gets_nothing_until_it_is_resumed() -> None:
    flood = Flood(32 * MEGABYTE)
    async with served(flood) as (_, pool):
        response = await post(pool)
        calls = got = 0

        def sink(data: bytes) -> None:
            nonlocal calls, got
            calls += 1
            got += len(data)
            assert len(data) <= (PAUSE_ABOVE_BYTES if calls == 1 else 0) + one_read()
            if calls <= 2:  # on what was held when the pipe began, then on a read from the socket
                response.pause()

        piping = asyncio.create_task(response.pipe(sink))
        for calls_so_far in (1, 2):
            await flood.stalls()
            assert calls == calls_so_far
            assert 0 < got < 4 * MEGABYTE
            response.resume()
        await piping
        assert got == flood.size


@dialogue
async def test_a_pause_before_the_pipe_holds() -> None:
    flood = Flood(32 * MEGABYTE)
    async with served(flood) as (_, pool):
        response = await post(pool)
        response.pause()
        got: list[bytes] = []
        piping = asyncio.create_task(response.pipe(got.append))
        assert await flood.stalls() < 16 * MEGABYTE
        assert sum(map(len, got)) <= PAUSE_ABOVE_BYTES + one_read()
        response.resume()
        await piping
        assert sum(map(len, got)) == flood.size


@dialogue
async def test_while_a_client_is_slow_the_deadline_between_reads_does_not_run() -> None:
    flood = Flood(32 * MEGABYTE)
    async with served(flood) as (_, pool):
        response = await post(pool, deadlines=Timeout(first_token=NEVER, idle=0.3, total=NEVER))
        response.pause()
        await asyncio.sleep(0.7)
        assert len(await response.read(32 * MEGABYTE)) == flood.size


@dialogue
async def test_a_slow_client_does_not_hold_a_worker_for_ever() -> None:
    async def take_nothing(pool: Pool) -> None:
        response = await post(pool, deadlines=Timeout(first_token=NEVER, idle=NEVER, total=0.2))
        response.pause()
        await response.pipe(lambda _: response.pause())

    async with served(Flood(32 * MEGABYTE)) as (_, pool):
        with pytest.raises(WorkerTimeout, match="the end of the answer"):
            await take_nothing(pool)


# Leaving


async def hold(peer: Peer) -> None:
    """Begins a stream and waits for the gateway to leave."""
    await peer.request()
    peer.say(CHUNKED + chunk(b"x"))
    await peer.gone()


@dialogue
async def test_aborting_closes_the_connection_at_once_and_tells_who_still_reads() -> None:
    async with served(hold) as (worker, pool):
        before = armed_timers()
        response = await post(pool)
        reading = asyncio.create_task(response.read(100))
        await asyncio.sleep(0)
        response.abort()
        with pytest.raises(WorkerBroke, match="broken off"):
            await reading
        await worker.left()
        await until(lambda: pool.connections == 0)
        assert armed_timers() == before
        response.abort()


@dialogue
async def test_a_sink_may_abort() -> None:
    async with served(hold) as (worker, pool):
        response = await post(pool)
        got: list[bytes] = []

        def sink(data: bytes) -> None:
            got.append(data)
            response.abort()

        with pytest.raises(WorkerBroke):
            await response.pipe(sink)
        assert got == [b"x"]
        await worker.left()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n"])
@dialogue
async def test_a_request_cancelled_before_its_answer_drops_its_connection(said: bytes) -> None:
    async def script(peer: Peer) -> None:
        await silent_after(peer, said)

    async with served(script) as (worker, pool):
        before = armed_timers()
        task = asyncio.create_task(ask(pool))
        await worker.arrival()
        await until(lambda: len(worker.peers[0].asked) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await worker.left()
        await until(lambda: pool.connections == 0)
        assert armed_timers() == before


@pytest.mark.parametrize("how", [lambda response: response.pipe(lambda _: None), Response.take, lambda r: r.read(100)])
@dialogue
async def test_whoever_is_cancelled_while_reading_can_still_abort(how: Any) -> None:
    async with served(hold) as (worker, pool):
        response = await post(pool)
        assert await response.take() == b"x"
        task = asyncio.create_task(how(response))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        response.abort()
        await worker.left()
        await until(lambda: pool.connections == 0)


@dialogue
async def test_closing_a_pool_closes_idle_connections_now_and_busy_ones_after_their_answer() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            await go.wait()
        peer.say(answer(b"%d" % peer.number))
        await peer.gone()

    async with served(script) as (worker, pool):
        busy = asyncio.create_task(ask(pool))
        await worker.arrival()
        assert await ask(pool) == b"1"
        await pool.close()
        await worker.left(1)
        assert not busy.done()
        go.set()
        assert await busy == b"0"
        await worker.left(0)


# Leaving a worker that is silent


class Asker:
    def __init__(self, may: bool) -> None:
        self.may = may

    def may_leave(self) -> bool:
        return self.may


async def asked_by(pool: Pool, asker: Asker) -> Response:
    return await pool.request("/v1/chat/completions", JSON, b"{}", b"", PATIENT, asker)


@pytest.mark.parametrize("said", [b"", CHUNKED])
@dialogue
async def test_before_a_byte_of_its_body_an_answer_is_left_if_another_worker_can_be_asked(said: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(said)
        await peer.gone()

    async def whole(pool: Pool, asker: Asker) -> None:
        await (await asked_by(pool, asker)).take()

    async with served(script) as (worker, pool):
        askers = Asker(False), Asker(True)
        asked = [asyncio.create_task(whole(pool, asker)) for asker in askers]
        await until(lambda: sum(len(peer.asked) for peer in worker.peers) == 2)
        if said:
            await asyncio.sleep(0.02)  # its head is read
        assert pool.leave() == 1
        assert pool.leave() == 0
        with pytest.raises(WorkerTimeout, match="silent") as caught:
            await asked[1]
        assert caught.value.code == "worker_silent"
        assert not asked[0].done()
        asked[0].cancel()
        await asyncio.wait(asked)


@dialogue
async def test_an_answer_whose_body_has_begun_is_not_left() -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(CHUNKED + chunk(b"a"))
        await go_on.wait()
        peer.say(chunk(b"b") + b"0\r\n\r\n")
        await serve_forever(peer)

    async with served(script) as (_, pool):
        response = await asked_by(pool, Asker(True))
        assert await response.take() == b"a"
        assert pool.leave() == 0
        go_on.set()
        assert await response.read(10) == b"b"
        assert pool.leave() == 0, "an idle connection has nobody who asks"
        assert await ask(pool) == b"ok"
