"""Clients on real sockets: what they may send, and what they get for what they may not."""

from __future__ import annotations

import asyncio
import re
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.downstream.connection import MAX_HEAD_BYTES, MAX_UNFINISHED_BYTES, ClientConnection
from gateway.downstream.exchange import Exchange
from gateway.downstream.limits import Intake, Limits
from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.downstream.front import (
    LIMIT,
    PATH,
    Front,
    Receive,
    Scope,
    Send,
    admit,
    application,
    echo,
    refuse,
    request,
)

LONG = 60.0


def chunked(*pieces: bytes, more: tuple[bytes, ...] = (), end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"\r\n".join([f"POST {PATH} HTTP/1.1".encode(), b"host: front", b"transfer-encoding: chunked", *more])
    return head + b"\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


class Gate:
    """A handler that answers when it is told to."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.entered.set()
        await self.go.wait()
        await echo(exchange)


# Keep-alive and pipelining


@dialogue
async def test_requests_of_both_planes_follow_each_other_on_one_connection() -> None:
    async with Front() as front, await front.client() as client:
        first = await client.ask(b"12345", b"X: y")
        assert (first.status, first.json) == (200, {"path": PATH, "size": 5, "x": "y"})
        assert first.headers["content-type"] == "application/json"
        assert "connection" not in first.headers
        assert (await client.ask(b"123", path="/other")).json == {"asgi": "/other", "method": "POST", "size": 3}
        assert (await client.ask(path=PATH, method="GET")).json == {"asgi": PATH, "method": "GET", "size": 0}
        assert (await client.ask(b"1", path="/tokenize?version=2")).json["path"] == "/tokenize"
        assert (await client.ask(path="/v1/chat%2Fcompletions")).json["asgi"] == PATH
        assert len(front.connections) == 1
        assert front.server.server_state.total_requests == 5


@dialogue
async def test_a_body_in_chunks_is_the_same_body() -> None:
    async with Front() as front, await front.client() as client:
        client.say(chunked(b"ab", b"c" * 1000))
        assert (await client.reply()).json["size"] == 1002
        assert front.seen[0].body == b"ab" + b"c" * 1000


@dialogue
async def test_pipelined_requests_are_answered_in_order_and_one_at_a_time() -> None:
    running = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running -= 1
        await echo(exchange)

    async with Front(handler) as front, await front.client() as client:
        paths = [PATH, "/a", PATH, PATH, "/b", "/c", "/tokenize"]
        client.say(b"".join(request(b"x" * size, path=path) for size, path in enumerate(paths)))
        replies = [(await client.reply()).json for _ in paths]
        assert [reply.get("path") or reply["asgi"] for reply in replies] == paths
        assert [reply["size"] for reply in replies] == list(range(len(paths)))


@dialogue
async def test_a_pipelined_request_that_is_too_large_is_refused_in_its_turn() -> None:
    gate = Gate()
    async with Front(gate) as front, await front.client() as client:
        client.say(request(b"1"), request(bytes(LIMIT + 1)), request(b"22"), request(b"3", path="/a"))
        await gate.entered.wait()
        gate.go.set()
        assert (await client.reply()).json["size"] == 1
        refused = await client.reply()
        assert (refused.status, refused.code) == (413, "request_too_large")
        assert (await client.reply()).json["size"] == 2
        assert (await client.reply()).json == {"asgi": "/a", "method": "POST", "size": 1}
        assert len(front.seen) == 2


@dialogue
async def test_a_large_body_behind_another_request_waits_without_being_read() -> None:
    gate = Gate()
    async with Front(gate) as front, await front.client() as client:
        client.say(request(b"1"), request(bytes(LIMIT)))
        await gate.entered.wait()
        (connection,) = front.connections
        assert connection.flow.read_paused
        gate.go.set()
        assert (await client.reply()).json["size"] == 1
        assert (await client.reply()).json["size"] == LIMIT


# Any split


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False
        self.pauses: list[bool] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def write_eof(self) -> None:
        self.closing = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.pauses.append(True)

    def resume_reading(self) -> None:
        self.pauses.append(False)


CONFIG = Config(application, lifespan="off", ws="none", log_config=None, access_log=False, server_header=False)  # type: ignore[arg-type]


async def answer(exchange: Exchange) -> None:
    if exchange.refusal is not None:
        refuse(exchange, exchange.refusal)
    else:
        await echo(exchange)


TURNS = 50  # of the loop: more than the tasks of all requests in one read take


def answered(reads: list[bytes]) -> tuple[bytes, bool]:
    """What a connection writes for these reads, each followed by what the tasks then do; and whether it closes."""

    async def play() -> tuple[bytes, bool]:
        state, transport = ServerState(), Transport()
        connection = ClientConnection(
            CONFIG,
            state,
            {},
            handler=answer,
            screen=admit,
            paths=frozenset({PATH}),
            intake=Intake(Limits(max_body_bytes=50)),
        )
        connection.connection_made(transport)
        for read in reads:
            if read and not transport.closing:
                connection.data_received(read)
            for _ in range(TURNS):
                await asyncio.sleep(0)
        closing = transport.closing
        connection.connection_lost(None)
        return transport.written, closing

    return asyncio.run(play())


bodies = st.binary(max_size=60) | st.sampled_from([b"\r\n\r\n", request(b"x")[:50]])
requests = st.builds(
    lambda body, path, headers, version, in_chunks: (
        chunked(body) if in_chunks and body else request(body, *headers, path=path, version=version)
    ),
    bodies,
    st.sampled_from([PATH, "/a"]),
    st.lists(
        st.sampled_from(
            [b"x: y", b"connection: close", b"expect: 100-continue", b"connection: upgrade\r\nupgrade: h2c"]
        )
    ),
    st.sampled_from(["1.1", "1.1", "1.1", "1.0"]),
    st.booleans(),
)
bad = st.sampled_from(
    [b"", b"", b"", b"GARBAGE\r\n\r\n", b"\x00", b"POST / HTTP/1.1\r\na b: c\r\n\r\n", b"GET /a HTTP/1.1\r\n"]
)


@given(st.lists(requests, max_size=4), bad, st.data())
def test_any_split_of_what_a_client_sends_gets_the_same_answers(
    sent: list[bytes], last: bytes, data: st.DataObject
) -> None:
    stream = b"".join(sent) + last
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8), label="cuts"))
    whole = answered([stream])
    split = answered([stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)])
    assert settled(split) == settled(whole)


def settled(answer: tuple[bytes, bool]) -> tuple[bytes, bool]:
    """Without what may differ: ids, and whether a client was told to go on before it had."""
    written = answer[0].replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return re.sub(rb"req_[0-9a-f]+", b"req", written), answer[1]


@given(st.lists(st.binary(max_size=30) | requests, max_size=5).map(b"".join))
def test_any_bytes_are_answered_or_refused(stream: bytes) -> None:
    written, _ = answered([stream])
    assert written == b"" or written.startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 5" not in written


# HTTP/1.0


@dialogue
async def test_http_1_0_gets_one_answer_and_the_end_of_the_connection() -> None:
    async with Front() as front, await front.client() as client:
        reply = await client.ask(b"123", b"connection: keep-alive", version="1.0")
        assert (reply.json["size"], reply.headers["connection"]) == (3, "close")
        assert await client.closed() == b""


@dialogue
async def test_http_1_0_streams_without_chunks() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, b"text/event-stream", [])
        exchange.write(b"data: 1\n\n")
        exchange.write(b"data: 2\n\n")
        exchange.finish()

    async with Front(handler) as front, await front.client() as client:
        reply = await client.ask(version="1.0")
        assert "transfer-encoding" not in reply.headers
        assert reply.headers["connection"] == "close"
        assert reply.body == b"data: 1\n\ndata: 2\n\n"


# Expect: 100-continue


@dialogue
async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    async with Front() as front, await front.client() as client:
        body = b"x" * 100
        sent = request(body, b"expect: 100-continue")
        client.say(sent[: -len(body)])
        assert (await client.head())[0] == 100
        client.say(body)
        assert (await client.reply()).json["size"] == 100


@dialogue
async def test_a_pipelined_client_is_told_to_go_on_in_its_turn() -> None:
    gate = Gate()
    async with Front(gate) as front, await front.client() as client:
        client.say(request(b"1"), request(b"22", b"expect: 100-continue")[:-2])
        await gate.entered.wait()
        gate.go.set()
        assert (await client.reply()).json["size"] == 1
        assert (await client.head())[0] == 100
        client.say(b"22")
        assert (await client.reply()).json["size"] == 2


@dialogue
async def test_http_1_0_can_not_ask_first() -> None:
    async with Front() as front, await front.client() as client:
        client.say(request(b"22", b"expect: 100-continue", version="1.0"))
        assert (await client.reply()).json["size"] == 2


@dialogue
async def test_a_client_that_asks_first_for_too_much_is_refused_and_closed() -> None:
    async with Front() as front, await front.client() as client:
        head = request(bytes(LIMIT + 1), b"expect: 100-continue")[: -LIMIT - 1]
        client.say(head)
        reply = await client.reply()
        assert (reply.status, reply.code, reply.headers["connection"]) == (413, "request_too_large", "close")
        client.say(bytes(LIMIT + 1))
        assert await client.closed() == b""


# Too large


@pytest.mark.parametrize("in_chunks", [False, True])
@pytest.mark.parametrize("closes", [False, True])
@dialogue
async def test_a_body_too_large_is_refused_readably_and_not_kept(in_chunks: bool, closes: bool) -> None:
    pieces = [bytes(64 * 1024)] * 512
    connection = (b"connection: close",) * closes
    async with Front() as front, await front.client() as client:
        head = request(b"", *connection).replace(b"content-length: 0", b"content-length: %d" % (512 * 64 * 1024))
        if in_chunks:
            head = chunked(more=connection, end=b"")
            pieces = [b"10000\r\n" + piece + b"\r\n" for piece in pieces] + [b"0\r\n\r\n"]
        tracemalloc.start()
        try:
            client.say(head)
            for piece in pieces:
                client.say(piece)
                await client.writer.drain()
            reply = await client.reply()
            assert tracemalloc.get_traced_memory()[1] < 16 * LIMIT
        finally:
            tracemalloc.stop()
        assert (reply.status, reply.code) == (413, "request_too_large")
        assert reply.headers["x-should-retry"] == "false"
        assert "1 MB" in reply.json["error"]["message"]
        assert front.seen == []
        if closes:
            assert reply.headers["connection"] == "close"
            assert await client.closed() == b""
        else:
            assert (await client.ask(b"1")).json["size"] == 1


@dialogue
async def test_a_body_at_the_limit_is_taken() -> None:
    async with Front() as front, await front.client() as client:
        assert (await client.ask(bytes(LIMIT))).json["size"] == LIMIT
        client.say(chunked(bytes(LIMIT)))
        assert (await client.reply()).json["size"] == LIMIT


@pytest.mark.parametrize("last", [b"connection: close", b"expect: 100-continue"])
@dialogue
async def test_what_follows_a_refused_last_request_is_not_answered(last: bytes) -> None:
    async with Front(max_body_bytes=10) as front, await front.client() as client:
        client.say(request(bytes(11), last) + request(b"1") + request(b"1", path="/a"))
        assert (await client.reply()).status == 413
        assert await client.closed() == b""
        assert front.seen == []


# Malformed

MALFORMED = [
    b"GARBAGE\r\n\r\n",
    b"\x16\x03\x01\x00\xa5\x01\x00\x00",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST HTTP/1.1\r\n\r\n",
    b"POST /v1/\xff HTTP/1.1\r\n\r\n",
    b"CONNECT host:443 HTTP/1.1\r\nhost: host\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost front\r\n\r\n",
    b"POST / HTTP/1.1\r\nbad name: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nx: a\x00b\r\n\r\n",
    b"POST / HTTP/1.1\r\nx: folded\r\n  over\r\ncontent-length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
    b"POST / HTTP/1.1\r\ncontent-length: -3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\nabc",
]


@pytest.mark.parametrize("path", [b"/", PATH.encode()])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("sent", MALFORMED)
@dialogue
async def test_what_is_not_http_is_a_bad_request(sent: bytes, after: int, path: bytes) -> None:
    async with Front() as front, await front.client() as client:
        for _ in range(after):
            await client.ask(b"1")
        client.say(sent.replace(b" / ", b" " + path + b" "))
        reply = await client.reply()
        assert (reply.status, reply.code, reply.headers["connection"]) == (400, "invalid_http", "close")
        assert await client.closed() == b""
        assert len(front.seen) == after


@dialogue
async def test_garbage_behind_a_request_does_not_take_its_answer_away() -> None:
    gate = Gate()
    for sent in (request(b"1"), request(b"1") + request(b"1", path="/a"), request(b"1", path="/a") + request(b"1")):
        async with Front(gate) as front, await front.client() as client:
            gate.go.clear()
            client.say(sent + b"GARBAGE\r\n\r\n")
            await gate.entered.wait()
            client.say(b"and more of it\r\n\r\n" * 1000)
            gate.go.set()
            replies = [await client.reply() for _ in range(sent.count(b"POST"))]
            assert [reply.json["size"] for reply in replies] == [1] * len(replies)
            assert (await client.reply()).code == "invalid_http"
            assert await client.closed() == b""


@pytest.mark.parametrize(
    "sent",
    [
        chunked(b"good", end=b"zz\r\n"),
        chunked(b"good", end=b"0\r\nbad trailer\r\n\r\n"),
        request().replace(b"content-length: 0", b"transfer-encoding: gzip"),
    ],
)
@dialogue
async def test_a_body_that_is_not_http_is_a_bad_request(sent: bytes) -> None:
    async with Front() as front, await front.client() as client:
        client.say(sent)
        assert (await client.reply()).code == "invalid_http"
        assert await client.closed() == b""
        assert front.seen == []


@dialogue
async def test_a_pipelined_body_that_is_not_http_is_refused_in_its_turn() -> None:
    gate = Gate()
    async with Front(gate) as front, await front.client() as client:
        client.say(request(b"1") + chunked(b"good", end=b"zz\r\n"))
        await gate.entered.wait()
        gate.go.set()
        assert (await client.reply()).json["size"] == 1
        assert (await client.reply()).code == "invalid_http"
        assert await client.closed() == b""


@dialogue
async def test_a_body_refused_as_too_large_that_turns_bad_just_ends() -> None:
    async with Front() as front, await front.client() as client:
        client.say(chunked(bytes(LIMIT + 1), end=b"zz\r\n"))
        assert (await client.reply()).status == 413
        assert await client.closed() == b""


@dialogue
async def test_an_application_is_not_left_waiting_for_a_body_that_turns_bad() -> None:
    async with Front() as front, await front.client() as client:
        client.say(chunked(b"good", end=b"zz\r\n").replace(PATH.encode(), b"/upload"))
        assert (await client.reply()).code == "invalid_http"
        assert await client.closed() == b""
        client.leave()
        await front.idle()


# Heads


@pytest.mark.parametrize("step", [1000, 10**7])
@pytest.mark.parametrize("path", [PATH, "/a"])
@dialogue
async def test_a_head_is_bounded(path: str, step: int) -> None:
    async with Front() as front, await front.client() as client:
        assert (await client.ask(b"1", b"y: " + b"a" * (MAX_HEAD_BYTES - 100), path=path)).status == 200
        sent = request(b"1", b"y: " + b"a" * MAX_HEAD_BYTES, path=path)
        for start in range(0, len(sent), step):
            client.say(sent[start : start + step])
            await asyncio.sleep(0)
        reply = await client.reply()
        assert (reply.status, reply.code) == (431, "headers_too_large")
        assert await client.closed() == b""


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"POST / HTTP/1.1\r\nx: ", b"a" * 1000),
        (b"POST / HTTP/1.1\r\n", b"a" * 1000),
        (b"POST /", b"a" * 1000),
        (b"POST / HTTP/1.1\r\n", b"x: y\r\n" * 200),
        (chunked(b"body", end=b"0\r\n"), b"trailer: y\r\n" * 100),
        (chunked(b"body", end=b"0\r\ntrailer: "), b"a" * 1000),
        (chunked(b"body", end=b"1;"), b"a" * 1000),
    ],
)
@dialogue
async def test_a_head_or_trailer_without_end_is_cut_off(start: bytes, piece: bytes) -> None:
    async with Front() as front, await front.client() as client:
        client.say(start)
        ended = asyncio.ensure_future(client.reply())
        sent = 0
        while not ended.done() and sent < 32 * LIMIT:
            client.say(piece * 10)
            sent += len(piece) * 10
            await asyncio.sleep(0)
        assert (await ended).code == "headers_too_large"
        assert front.seen == []
        assert MAX_UNFINISHED_BYTES < sent


@dialogue
async def test_many_small_requests_in_one_read_are_no_large_head() -> None:
    async with Front() as front, await front.client() as client:
        many = request(b"x" * 50) * 3000
        client.say(many, request(b"1")[:20])
        for _ in range(3000):
            assert (await client.reply()).json["size"] == 50
        client.say(request(b"1")[20:])
        assert (await client.reply()).json["size"] == 1


@dialogue
async def test_trailers_are_no_headers() -> None:
    async with Front() as front, await front.client() as client:
        client.say(chunked(b"body", end=b"0\r\nx: smuggled\r\n\r\n"))
        assert (await client.reply()).json == {"path": PATH, "size": 4, "x": ""}


# Upgrades


@pytest.mark.parametrize("path", [PATH, "/a"])
@pytest.mark.parametrize("extra", [(), (b"x: y",)])
@dialogue
async def test_an_offer_of_http_2_is_declined_by_answering_as_if_there_were_none(
    path: str, extra: tuple[bytes, ...]
) -> None:
    """As the JDK's own client sends it with the first request of a connection."""
    offer = (
        b"Connection: Upgrade, HTTP2-Settings",
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk",
        b"Upgrade: h2c",
        *extra,
    )
    async with Front() as front, await front.client() as client:
        for _ in range(2):
            reply = await client.ask(b"x" * 200_000, *offer, path=path)
            assert (reply.status, reply.json["size"]) == (200, 200_000)
            assert "connection" not in reply.headers
        assert path != PATH or (front.seen[0].header(b"x"), front.seen[0].header(b"upgrade")) == (
            b"y" if extra else None,
            None,
        )


@dialogue
async def test_an_offer_keeps_a_wish_to_close() -> None:
    async with Front() as front, await front.client() as client:
        reply = await client.ask(b"123", b"connection: upgrade, close", b"upgrade: websocket")
        assert (reply.json["size"], reply.headers["connection"]) == (3, "close")
        assert await client.closed() == b""


# Too slow


@pytest.mark.parametrize("sent", [b"P", request(b"")[:-2], request(b"12345")[:-2], chunked(b"123", end=b"5\r\n12")])
@dialogue
async def test_a_request_that_does_not_arrive_is_given_up(sent: bytes) -> None:
    async with Front(head_seconds=0.05, body_seconds=0.05) as front, await front.client() as client:
        client.say(sent)
        reply = await client.reply()
        assert (reply.status, reply.code, reply.headers["connection"]) == (408, "request_timeout", "close")
        assert await client.closed() == b""
        assert front.seen == []


@dialogue
async def test_a_slow_request_behind_another_does_not_take_its_answer_away() -> None:
    gate = Gate()
    async with Front(gate, head_seconds=0.05, body_seconds=0.05) as front, await front.client() as client:
        client.say(request(b"1"), b"POST /slow")
        await gate.entered.wait()
        (connection,) = front.connections
        while not connection.pipeline:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        gate.go.set()
        assert (await client.reply()).json["size"] == 1
        assert (await client.reply()).code == "request_timeout"
        assert await client.closed() == b""


@dialogue
async def test_a_body_we_do_not_read_yet_is_not_slow() -> None:
    gate = Gate()
    async with Front(gate, head_seconds=0.3, body_seconds=0.3) as front, await front.client() as client:
        client.say(request(b"1"), request(bytes(LIMIT)))
        await gate.entered.wait()
        await asyncio.sleep(0.7)
        gate.go.set()
        assert (await client.reply()).json["size"] == 1
        assert (await client.reply()).json["size"] == LIMIT


@dialogue
async def test_an_idle_connection_is_not_slow() -> None:
    async with Front(head_seconds=0.02, body_seconds=0.02) as front, await front.client() as client:
        for _ in range(3):
            assert (await client.ask(b"1")).status == 200
            await asyncio.sleep(0.05)


# Applications behind


@dialogue
async def test_an_application_hears_of_a_client_that_leaves_whatever_waits_behind_it() -> None:
    heard = asyncio.Event()
    entered = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        entered.set()
        assert (await receive())["type"] == "http.disconnect"
        heard.set()

    for behind in (b"", request(b"1"), request(b"1", path="/b")):
        heard.clear()
        entered.clear()
        async with Front(app=app) as front, await front.client() as client:
            client.say(request(b"1", path="/a") + behind)
            await entered.wait()
            client.leave()
            await heard.wait()
            await front.idle()
            assert front.seen == []


# Shutting down


@dialogue
async def test_shutting_down_finishes_the_stream_under_way_and_closes_the_rest() -> None:
    gate = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, b"text/event-stream", [])
        exchange.write(b"data: 1\n\n")
        await gate.wait()
        exchange.write(b"data: 2\n\n")
        exchange.finish()

    quiet = Front(handler, quiet_seconds=0.2)
    async with quiet as front, await front.client() as client, await front.client() as idle:
        client.say(request(b"1"))
        await client.head()
        assert await client.chunk() == b"data: 1\n\n"
        stopping = asyncio.create_task(front.server.shutdown(sockets=[front._listener]))
        assert await idle.closed() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", front.port)
        gate.set()
        assert await client.chunk() == b"data: 2\n\n"
        assert await client.chunk() == b""
        assert await client.closed() == b""
        await stopping


# The task that answers


class Telling:
    """A handler that remembers which task called it, and waits for `go` after an answer to `b"linger"`."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.go = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.tasks.append(asyncio.current_task())
        await echo(exchange)
        if exchange.body == b"linger":
            await self.go.wait()


@dialogue
async def test_one_task_answers_one_request_after_another_and_ends_with_its_connection() -> None:
    telling = Telling()
    async with Front(telling) as front, await front.client() as client:
        for _ in range(3):
            await client.ask(b"1")
        await front.idle_tasks()
        (task,) = set(telling.tasks)
        assert task is not None
        assert not task.done()  # it rests
        client.leave()
        await task
        await front.idle()


@dialogue
async def test_who_is_busy_after_an_answer_keeps_nobody_waiting() -> None:
    telling = Telling()
    async with Front(telling) as front, await front.client() as client:
        for body in (b"linger", b"2", b"3"):
            assert (await client.ask(body)).json["size"] == len(body)
        first, second, third = telling.tasks
        assert first is not second
        assert second is third
        telling.go.set()
        await front.idle_tasks()
        assert first is not None
        await first  # one that rests is enough
        await client.ask(b"4")
        assert telling.tasks[3] is second


@dialogue
async def test_a_task_that_was_cancelled_answers_no_other() -> None:
    telling = Telling()

    async def cancelled(exchange: Exchange) -> None:
        task = asyncio.current_task()
        assert task is not None
        if exchange.body == b"cut":
            task.cancel()
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                await telling(exchange)
        else:
            await telling(exchange)

    async with Front(cancelled) as front, await front.client() as client:
        for body in (b"1", b"cut", b"3", b"4"):
            assert (await client.ask(body)).json["size"] == len(body)
        one, cut, three, four = telling.tasks
        assert one is cut
        assert cut is not three
        assert three is four


@pytest.mark.parametrize("before", [0, 1])
@dialogue
async def test_a_task_that_is_cancelled_before_it_begins_is_not_waited_for(before: int) -> None:
    seen: list[Exchange] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange)
        await echo(exchange)

    state, transport = ServerState(), Transport()
    connection = ClientConnection(
        CONFIG, state, {}, handler=handler, screen=admit, paths=frozenset({PATH}), intake=Intake(Limits())
    )
    connection.connection_made(transport)
    for _ in range(before):
        connection.data_received(request(b"1"))
        while state.tasks or not seen:  # noqa: ASYNC110
            await asyncio.sleep(0)
    connection.data_received(request(b"2"))
    (task,) = state.tasks
    task.cancel()
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert not state.tasks
    assert len(seen) == before
    connection.connection_lost(None)


@dialogue
async def test_a_client_that_leaves_in_the_middle_of_a_later_request_has_it_cancelled() -> None:
    running, left = asyncio.Event(), asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        if exchange.body != b"wait":
            await echo(exchange)
            return
        running.set()
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            left.set()

    async with Front(handler) as front, await front.client() as client:
        await client.ask(b"1")
        client.say(request(b"wait"))
        await running.wait()
        client.leave()
        await left.wait()
        await front.idle()
