"""What must hold for any bytes a worker sends.

No exception leaves a callback. The one who asked gets a whole answer or an error, at once or by a deadline, and never
both; bytes after a whole answer end the connection and are nobody's. However the bytes are cut, the outcome is the
same. What we take for a whole answer h11 takes for the same one. A stream that is passed on ends as its endpoint ends,
or with one error event and no end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import h11

from gateway.errors import GatewayError, WorkerBroke
from gateway.protocol.endpoints import ENDPOINTS
from gateway.protocol.stream import StreamRelay
from gateway.table import Timeout
from gateway.upstream.connection import Connection, ConnectionLost
from tests.fuzz.referee import is_stricter

CHAT = ENDPOINTS["/v1/chat/completions"]
PATIENT = Timeout(60.0, 60.0, 60.0, 60.0)
MOST = 1 << 20


class Outcome(NamedTuple):
    status: int
    body: bytes | None  # None: it never became whole
    kept: bool  # the connection may carry another request
    passed: bytes  # to the client, had it been a stream
    relay: str  # the state in which that stream ended


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return self.ended

    def close(self) -> None:
        self.ended = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def check(loop: asyncio.AbstractEventLoop, case: bytes, cuttings: Sequence[Sequence[int]]) -> None:
    """AssertionError, or whatever else goes wrong, when something does not hold."""
    for closes in (False, True):
        whole = play(loop, [case], closes)
        for cuts in cuttings:
            parts = play(loop, [case[a:b] for a, b in zip([0, *cuts], [*cuts, len(case)], strict=True)], closes)
            # Empty lines after an answer are nothing to the parser, and bytes nobody asked for when they come alone.
            alike = parts == whole or parts == whole._replace(kept=False)
            assert alike, f"cut at {list(cuts)[:20]}: {parts} instead of {whole}"
        agree(whole, reference(case, closes))
        well_ended(whole)


def play(loop: asyncio.AbstractEventLoop, reads: Sequence[bytes], closes: bool) -> Outcome:
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    outcome = loop.run_until_complete(_play(loop, reads, closes))
    assert not complaints, complaints
    return outcome


async def _play(loop: asyncio.AbstractEventLoop, reads: Sequence[bytes], closes: bool) -> Outcome:
    released: list[Connection] = []
    forgotten: list[Connection] = []
    connection, transport = Connection(loop, released.append, forgotten.append), Transport()
    connection.connection_made(transport)
    relay = StreamRelay(CHAT, engine_model="a", asked_model="b", keep_usage=False, frame_error=lambda _: None)
    passed: list[bytes] = []

    async def ask() -> tuple[int, bytes | None]:
        status = 0
        taken: list[bytes] = []

        def take(data: bytes) -> None:
            taken.append(data)
            passed.append(relay.feed(data))

        try:
            response = await connection.exchange(b"", PATIENT)
            status = response.status
            await response.pipe(take)
        except GatewayError as error:
            passed.append(relay.broke(error))
            return status, None
        except ConnectionLost:
            assert not b"".join(reads), "an answer had begun"
            passed.append(relay.broke(WorkerBroke("")))
            return status, None
        passed.append(relay.finish())
        return status, b"".join(taken)

    asking = loop.create_task(ask())
    await asyncio.sleep(0)
    for read in reads:
        feed(connection, transport, read)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(released) <= 1, "released twice"
    kept = bool(released) and not transport.ended
    if closes or transport.ended:
        connection.connection_lost(None)
        assert len(forgotten) == 1
        done, _ = await asyncio.wait([asking], timeout=1.0)
        assert done, "nobody tells the one who asked that the worker has gone"
    else:
        for _ in range(5):
            await asyncio.sleep(0)
        if not asking.done():
            assert not released, "released with an answer under way"
            assert connection._timer is not None, "it waits without a deadline"
            asking.cancel()
            await asyncio.wait([asking])
            connection.connection_lost(None)
            return Outcome(0, None, False, b"", "waiting")
        connection.connection_lost(None)
    status, body = asking.result()
    return Outcome(status, body, kept and not closes, b"".join(passed), relay.state)


def feed(connection: Connection, transport: Transport, data: bytes) -> None:
    """As a transport does, which reads no more once it is closed."""
    while data and not transport.ended:
        into = connection.get_buffer(-1)
        size = min(len(into), len(data))
        into[:size] = data[:size]
        connection.buffer_updated(size)
        data = data[size:]


def well_ended(outcome: Outcome) -> None:
    """What a client of the stream would see."""
    if outcome.relay == "broken":
        assert outcome.passed.count(b'"code":"worker_broke"') >= 1
        assert outcome.passed.endswith(b"}}\n\n")
    elif outcome.relay == "ended":
        assert b"[DONE]" in outcome.passed
    else:
        assert outcome.relay == "waiting"


# What is an answer, by another parser


def reference(case: bytes, closes: bool) -> tuple[int, bytes | None, str]:
    """Status, body when it is whole, and why not."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "h"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        connection.receive_data(case)
        if closes:
            connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return status, None, "too little"
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, body, ""
    except h11.RemoteProtocolError as error:
        in_trailer = status and "Transfer-Encoding" in str(error)  # which nothing here reads
        return status, None, "illegal trailer" if in_trailer else str(error)


# Where h11 is the stricter one: nothing about the length of a body is among them.
_STRICTER = (
    "illegal status line",
    "illegal header line",
    "illegal trailer",
    "no response line received",  # empty lines before it
)


def agree(ours: Outcome, theirs: tuple[int, bytes | None, str]) -> None:
    if ours.body is None:
        return  # the stricter one takes less
    status, body, why_not = theirs
    if body is None:
        assert is_stricter(why_not, _STRICTER), f"h11 says {why_not!r} of {ours}"
    else:
        assert (ours.status, ours.body) == (status, body), f"{ours} and {theirs}"
