"""What must hold for any bytes a client sends.

No exception leaves a callback. What is written is a row of whole answers, one for each request and one more at most
for what could not be read; then the connection ends, or waits with a clock running. However the bytes are cut, the same
requests are understood and the same is written. And what counts as a request is what h11 takes for one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import h11
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.downstream.connection import ClientConnection
from gateway.downstream.exchange import Exchange
from gateway.downstream.limits import Intake, Limits
from tests.fuzz.referee import is_stricter

PATHS = frozenset({"/v1/chat/completions", "/tokenize"})
TURNS = 200  # of the loop, at most: more than what is read at once can take


class Request(NamedTuple):
    target: bytes
    body: bytes


class Told(NamedTuple):
    """What became of a case."""

    requests: list[Request]
    answers: list[tuple[int, bytes]]
    ended: bool


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False
        self.aborted = False
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.aborted:  # else it goes nowhere
            assert not self.ended, "written after the end"
            self.written += data

    def is_closing(self) -> bool:
        return self.ended

    def close(self) -> None:
        self.ended = True

    write_eof = close

    def abort(self) -> None:
        self.ended = self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


def check(loop: asyncio.AbstractEventLoop, case: bytes, cuttings: Sequence[Sequence[int]]) -> None:
    """AssertionError, or whatever else goes wrong, when something does not hold."""
    whole = play(loop, [case])
    for cuts in cuttings:
        parts = play(loop, [case[a:b] for a, b in zip([0, *cuts], [*cuts, len(case)], strict=True)])
        assert parts == whole, f"cut at {list(cuts)[:20]}: {parts} instead of {whole}"
    agree(whole, reference(case))


def play(loop: asyncio.AbstractEventLoop, reads: Sequence[bytes]) -> Told:
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    told = loop.run_until_complete(_play(loop, reads))
    assert not complaints, complaints
    return told


async def _play(loop: asyncio.AbstractEventLoop, reads: Sequence[bytes]) -> Told:
    requests: list[Request] = []
    answered: list[Exchange] = []

    async def handler(exchange: Exchange) -> None:
        assert exchange not in answered, "one request, two answers"
        answered.append(exchange)
        await asyncio.sleep(0)
        if exchange.refusal is not None:
            exchange.respond(exchange.refusal.status, b"application/json", [], exchange.refusal.body())
            return
        requests.append(Request(exchange.path.encode(), exchange.body))
        exchange.respond(200, b"application/json", [], b"%b %d" % (exchange.path.encode(), len(requests)))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        requests.append(Request(scope["raw_path"], body))
        said = b"" if scope["method"] == "HEAD" else b"%b %d" % (scope["raw_path"], len(requests))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
        await send({"type": "http.response.body", "body": said})

    config = Config(app, lifespan="off", ws="none", log_config=None, access_log=False, server_header=False)
    state, transport, intake = ServerState(), Transport(), Intake(Limits())
    connection = ClientConnection(
        config, state, {}, loop, handler=handler, screen=lambda _: None, paths=PATHS, intake=intake
    )
    connection.connection_made(transport)
    for read in reads:
        if read and not transport.ended:
            connection.data_received(read)
        for _ in range(TURNS):
            await asyncio.sleep(0)
            if not state.tasks:
                break
    ended = transport.ended
    heads = {exchange.header(b"x-none") for exchange in answered}  # every one of them can be read
    assert heads <= {None}
    if not ended:
        unread = connection.pipeline or connection._running is not None
        waits = connection._clock is not None or connection._idle_until > 0
        waiting_app = connection._asgi is not None and not connection._asgi.response_complete
        assert waits or waiting_app, "it neither ends nor waits for anything in particular"
        assert not unread or connection._message_open, "a whole request waits for nothing"
        assert not transport.paused or waiting_app or connection._message_open, "nothing is read, for no reason"
    connection.connection_lost(None)
    for _ in range(TURNS):
        await asyncio.sleep(0)
        if not state.tasks:
            break
    assert not state.tasks, "something goes on after the client has left"
    assert (intake.connections, intake.receiving_bytes) == (0, 0)
    return Told(requests, answers(transport.written, ended), ended)


_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[!#$%&'*+.^_`|~0-9a-zA-Z-]+: [^\r\n\x00]*\r\n)*)\r\n")


def answers(written: bytes, ended: bool) -> list[tuple[int, bytes]]:
    """Status and body of each answer, or the code of an error; interim ones are left out. Nothing may stand before,
    between or after them."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(written):
        head = _HEAD.match(written, at)
        assert head is not None, f"no answer begins at {written[at : at + 80]!r}"
        at = head.end()
        if head[1] == b"100":
            continue
        fields = [line.split(b": ", 1) for line in head[2].split(b"\r\n")[:-1]]
        lengths = [value for name, value in fields if name == b"content-length"]
        assert len(lengths) == 1
        body = written[at : at + int(lengths[0])]
        assert len(body) == int(lengths[0])
        at += len(body)
        found.append((int(head[1]), body if head[1] == b"200" else body.rpartition(b'"code":')[2]))
    assert all(status == 200 for status, _ in found[:-1]) or ended, "a refusal that ends nothing"
    return found


# What is a request, by another parser


class Reference(NamedTuple):
    requests: list[Request]
    why_not: str  # what h11 said of the bytes after the last of them; empty when there was nothing, or too little


def reference(case: bytes) -> Reference:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    requests: list[Request] = []
    target, body = b"", b""
    try:
        connection.receive_data(case)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return Reference(requests, "")
            if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return Reference(requests, "last")
            if isinstance(event, h11.Request):
                if event.method == b"CONNECT":
                    return Reference(requests, "last")
                target, body = event.target, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                requests.append(Request(target, body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return Reference(requests, "last")
                connection.start_next_cycle()
    except h11.RemoteProtocolError as error:
        return Reference(requests, str(error))


# Where h11 is the stricter one, and neither is wrong: nothing about the length of a body is among them.
_STRICTER = (
    "illegal request line",  # several spaces between its parts, characters of a target, a method that is none
    "no request line received",  # empty lines before it (RFC 9112, 2.2, would have them ignored)
    "illegal header line",  # control characters at the end of a value
    "Missing mandatory Host",
    "Found multiple Host",
    "last",  # it ends a connection where we read on, or the other way round
)


def agree(told: Told, other: Reference) -> None:
    for number, (ours, theirs) in enumerate(zip(told.requests, other.requests, strict=False)):
        path = theirs.target.partition(b"?")[0]
        assert ours.body == theirs.body, f"request {number} has another body: {ours} and {theirs}"
        assert path == ours.target or path.endswith(ours.target), f"another target: {ours} and {theirs}"
    if len(told.requests) > len(other.requests):
        extra = told.requests[len(other.requests) :]
        assert is_stricter(other.why_not, _STRICTER), f"h11 says {other.why_not!r} where we take {extra}"
