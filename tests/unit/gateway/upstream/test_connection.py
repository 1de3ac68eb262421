"""Parsing answers on one connection: any split of any answer gives the same, and garbage is only ever an error."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import GatewayError, WorkerBroke
from gateway.table import Timeout
from gateway.upstream.connection import MAX_HEAD_BYTES, MAX_UNFINISHED_HEAD_BYTES, Connection, ConnectionLost
from gateway.upstream.response import Response
from tests.unit.gateway.upstream.loopback import CHUNKED, answer, chunk

T = TypeVar("T")


class Transport:
    """A socket that swallows what is written and remembers being closed."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self.paused = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def advance(coroutine: Coroutine[Any, Any, T]) -> T | None:
    """One step: its result if it has one by then, None when it waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    return None


class Exchanged(NamedTuple):
    """All that can be seen of one exchange."""

    status: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    error: str = ""
    reusable: bool = False


class Line:
    """One connection with its transport, played by hand: no loop runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.released = self.forgotten = 0
        self.transport = Transport()
        self.connection = Connection(loop, self._release, self._forget)
        self.connection.connection_made(cast("asyncio.Transport", self.transport))

    def _release(self, _: Connection) -> None:
        self.released += 1

    def _forget(self, _: Connection) -> None:
        self.forgotten += 1

    def ask(self) -> Coroutine[Any, Any, Response]:
        exchange = self.connection.exchange(b"POST", Timeout())
        assert advance(exchange) is None
        return exchange

    def hear(self, *reads: bytes) -> None:
        for read in reads:
            while read and not self.transport.closed:
                buffer = self.connection.get_buffer(-1)
                size = min(len(buffer), len(read))
                buffer[:size] = read[:size]
                self.connection.buffer_updated(size)
                read = read[size:]

    def lose(self, error: Exception | None = None) -> None:
        self.transport.closed = True
        self.connection.connection_lost(error)

    def play(self, *reads: bytes, closes: bool = False) -> Exchanged:
        """One exchange in full; what is still missing of it when the worker falls silent is an error of the test's."""
        released = self.released
        exchange = self.ask()
        self.hear(*reads)
        if closes or self.transport.closed:
            self.lose()
        try:
            response = advance(exchange)
        except (GatewayError, ConnectionLost) as error:
            return Exchanged(error=type(error).__name__)
        if response is None:
            exchange.close()
            self.connection.abort()
            return Exchanged(error="waits")
        body, error_name = b"", ""
        while not error_name:
            took = response.take()
            try:
                piece = advance(took)
            except GatewayError as error:
                error_name = type(error).__name__
                break
            if piece is None:
                took.close()
                error_name = "waits"
            elif not piece:
                break
            else:
                body += piece
        return Exchanged(
            response.status,
            tuple(response.headers),
            body,
            error_name,
            self.released > released and not self.transport.closed,
        )


@contextmanager
def line() -> Iterator[Line]:
    loop = asyncio.new_event_loop()
    try:
        yield Line(loop)
    finally:
        loop.close()


# Any split of any answer

tokens = st.sampled_from([b"x-a", b"Content-Type", b"X-Long-Name"])
header_values = st.sampled_from([b"", b"1", b"text/plain; charset=utf-8", b"a" * 300])
fields = st.lists(st.tuples(tokens, header_values), max_size=4)
bodies = st.binary(max_size=200) | st.sampled_from([b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n"])
interims = st.lists(
    st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 \r\nlink: x\r\n\r\n"]), max_size=2
)


class Sent(NamedTuple):
    """An answer as bytes, and what should be understood of it."""

    raw: bytes
    closes: bool
    expected: Exchanged


@st.composite
def answers(draw: st.DrawFn) -> Sent:
    status = draw(st.sampled_from([200, 201, 400, 503]))
    named = draw(fields)
    body = draw(bodies)
    framing = draw(st.sampled_from(["length", "chunked", "close", "eof", "none"]))
    if framing == "none":
        status, body = draw(st.sampled_from([204, 304])), b""
    sent = list(named)
    wire = body
    if framing in ("length", "close"):
        sent.append((b"Content-Length", b"%d" % len(body)))
    if framing in ("close", "eof"):
        sent.append((b"Connection", b"close"))
    if framing == "chunked":
        sent.append((b"Transfer-Encoding", b"chunked"))
        cut = draw(st.integers(0, len(body)))
        extension = draw(st.sampled_from([b"", b";x=y"]))
        wire = b"".join(
            b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in (body[:cut], body[cut:]) if piece
        )
        wire += b"0\r\n" + draw(st.sampled_from([b"", b"Content-Type: trailer\r\nx-trailer: 1\r\n"])) + b"\r\n"
    head = b"HTTP/1.1 %d %b\r\n" % (status, draw(st.sampled_from([b"OK", b"", b"Some Words"])))
    raw = b"".join(draw(interims)) + head + b"".join(b"%b: %b\r\n" % each for each in sent) + b"\r\n" + wire
    closes = framing in ("close", "eof")
    headers = tuple(sent)
    return Sent(raw, closes, Exchanged(status, headers, body, "", not closes))


def pieces(data: st.DataObject, stream: bytes) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10), label="cuts"))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a != b]


@given(answers(), st.data())
def test_any_split_of_an_answer_gives_what_was_sent(sent: Sent, data: st.DataObject) -> None:
    with line() as whole:
        assert whole.play(sent.raw, closes=sent.closes) == sent.expected
    with line() as split:
        assert split.play(*pieces(data, sent.raw), closes=sent.closes) == sent.expected
    with line() as bytewise:
        assert bytewise.play(*(sent.raw[i : i + 1] for i in range(len(sent.raw))), closes=sent.closes) == sent.expected


@given(st.lists(answers(), min_size=2, max_size=5), st.data())
def test_answers_on_one_connection_come_in_order(sent: list[Sent], data: st.DataObject) -> None:
    with line() as subject:
        for each in sent:
            assert subject.play(*pieces(data, each.raw), closes=each.closes) == each.expected
            if each.closes:
                assert subject.forgotten == 1
                return
        assert subject.released == len(sent)


@given(answers(), st.data())
def test_an_answer_that_stops_is_an_error_at_whatever_byte(sent: Sent, data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(sent.raw) - 1))
    with line() as subject:
        seen = subject.play(*pieces(data, sent.raw[:kept]), closes=True)
    if kept == 0:
        assert seen.error == "ConnectionLost"
    elif seen.error:
        assert seen.error == "WorkerBroke"
        assert sent.expected.body.startswith(seen.body)
    else:  # it could not be told: its body ends where the connection does
        assert sent.expected.body.startswith(seen.body)
        assert (b"content-length" in dict(seen.headers), b"transfer-encoding" in dict(seen.headers)) == (False, False)


# Garbage

fragments = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200\r\n", b"HTTP/1.1 101 X\r\n", b"HTTP/1.1 100 C\r\n\r\n"),
        *(b"HTTP/2 200\r\n", b"\x16\x03\x01", b"content-length: 3\r\n", b"content-length: x\r\n", b"x-long: name\r\n"),
        *(b"transfer-encoding: chunked\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n", b" folded\r\n"),
        *(b"\r\n", b"\n", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", b"zz\r\n", b"\x00"),
    ]
)


@given(st.lists(fragments | st.binary(max_size=10), max_size=8).map(b"".join), st.data())
@example(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb", None)
@example(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na\x00", None)
@example(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", None)
def test_garbage_is_an_error_and_never_a_wait(stream: bytes, data: st.DataObject | None) -> None:
    with line() as subject:
        whole = subject.play(stream, closes=True)
    assert whole.error in ("", "WorkerBroke", "ConnectionLost")
    reads = [stream[i : i + 1] for i in range(len(stream))] if data is None else pieces(data, stream)
    with line() as subject:
        split = subject.play(*reads, closes=True)
    assert split._replace(reusable=False) == whole._replace(reusable=False)


@pytest.mark.parametrize("lines", [[b"gzip, chunked"], [b"gzip", b"chunked"], [b"identity, chunked"], [b"gzip"]])
def test_a_body_in_a_coding_that_was_not_asked_for_is_no_answer(lines: list[bytes]) -> None:
    """What a client would be given are bytes that nothing says how to read."""
    head = b"".join(b"transfer-encoding: %b\r\n" % line for line in lines)
    with line() as subject:
        seen = subject.play(b"HTTP/1.1 200 OK\r\n%b\r\n3\r\nabc\r\n0\r\n\r\n" % head, closes=True)
    assert (seen.error, seen.body) == ("WorkerBroke", b"")


def test_a_second_answer_nobody_asked_for_is_never_given_to_the_next_request() -> None:
    for surplus in (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother", b"HTTP/1.1 200", b"x", b"\x00"):
        with line() as subject:
            seen = subject.play(answer(b"mine") + surplus)
            assert (seen.body, seen.error) == (b"mine", "")
            assert subject.transport.closed
            assert not subject.connection.is_open


def test_bytes_on_an_idle_connection_close_it() -> None:
    with line() as subject:
        assert subject.play(answer(b"mine")).reusable
        subject.hear(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        assert subject.transport.closed


def test_surplus_bytes_do_not_leave_a_reader_waiting() -> None:
    with line() as subject:
        exchange = subject.ask()
        subject.hear(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n")
        response = advance(exchange)
        assert response is not None
        reading = response.read(100)
        assert advance(reading) is None
        subject.hear(b"abc\x00\x00")
        assert advance(reading) == b"abc"


def test_bytes_before_a_framing_error_are_delivered_before_the_error() -> None:
    with line() as subject:
        exchange = subject.ask()
        subject.hear(CHUNKED)
        response = advance(exchange)
        assert response is not None
        got: list[bytes] = []
        piping = response.pipe(got.append)
        assert advance(piping) is None
        subject.hear(chunk(b"good") + b"zz\r\n")
        assert got == [b"good"]
        with pytest.raises(WorkerBroke, match="not valid HTTP"):
            advance(piping)


# Heads


def head(*header_lines: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"content-length: 0", *header_lines]) + b"\r\n\r\n"


@pytest.mark.parametrize("step", [1000, 10**7])
@pytest.mark.parametrize(("size", "error"), [(MAX_HEAD_BYTES - 100, ""), (MAX_HEAD_BYTES, "WorkerBroke")])
def test_a_head_is_bounded(size: int, error: str, step: int) -> None:
    raw = head(b"x: " + b"a" * (size // 2), b"y: " + b"b" * (size // 2))
    with line() as subject:
        assert subject.play(*(raw[i : i + step] for i in range(0, len(raw), step))).error == error


@pytest.mark.parametrize("endless", [b"x: " + b"a" * 50_000, b"x" * 50_000, b"x: y\r\n" * 10_000])
def test_a_head_without_end_is_cut_off(endless: bytes) -> None:
    with line() as subject:
        exchange = subject.ask()
        subject.hear(b"HTTP/1.1 200 OK\r\n")
        sent = 0
        while not subject.transport.closed:
            assert sent < MAX_UNFINISHED_HEAD_BYTES + len(endless)
            subject.hear(endless)
            sent += len(endless)
        with pytest.raises(WorkerBroke):
            advance(exchange)


def test_interim_answers_without_end_are_cut_off() -> None:
    with line() as subject:
        exchange = subject.ask()
        while not subject.transport.closed:
            subject.hear(b"HTTP/1.1 100 \r\n\r\n" * 1000)
        with pytest.raises(WorkerBroke):
            advance(exchange)


# Whose connection it is


def test_a_request_that_is_cancelled_too_late_leaves_the_next_one_alone() -> None:
    """Its answer is in, the connection given on, and only then its task, not yet woken, is cancelled."""
    with line() as subject:
        first = subject.ask()
        subject.hear(answer(b"first"))
        second = subject.ask()
        with pytest.raises(asyncio.CancelledError):
            first.throw(asyncio.CancelledError)
        assert not subject.transport.closed
        subject.hear(answer(b"second"))
        response = advance(second)
        assert response is not None
        assert advance(response.read(10)) == b"second"


def test_a_request_that_is_cancelled_drops_its_connection() -> None:
    for heard in (b"", b"HTTP/1.1 200", CHUNKED, CHUNKED + chunk(b"x")):
        with line() as subject:
            exchange = subject.ask()
            if heard:
                subject.hear(heard)
            with pytest.raises(asyncio.CancelledError):
                exchange.throw(asyncio.CancelledError)
            assert subject.transport.closed
            subject.lose()
            assert (subject.released, subject.forgotten) == (0, 1)


@pytest.mark.parametrize("meanwhile", [answer(b"ok"), CHUNKED, b""])
def test_what_comes_between_a_cancellation_and_its_task_disturbs_nobody(meanwhile: bytes) -> None:
    loop = asyncio.new_event_loop()
    subject = Line(loop)
    exchange = loop.create_task(subject.connection.exchange(b"POST", Timeout()))
    loop.run_until_complete(asyncio.sleep(0))
    exchange.cancel()
    subject.hear(meanwhile)
    if not meanwhile:
        subject.lose()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(exchange)
    assert subject.transport.closed == (meanwhile != answer(b"ok"))
    assert subject.released == (meanwhile == answer(b"ok"))
    loop.close()


def test_a_lost_connection_takes_no_request() -> None:
    with line() as subject:
        subject.lose()
        subject.connection.abort()
        subject.connection.close()
        subject.connection.pause()
        subject.connection.resume()
        with pytest.raises(ConnectionLost):
            advance(subject.connection.exchange(b"POST", Timeout()))


def test_a_paused_connection_reads_again_when_it_is_given_on() -> None:
    with line() as subject:
        exchange = subject.ask()
        subject.hear(CHUNKED + chunk(b"x"))
        response = advance(exchange)
        assert response is not None
        response.pause()
        assert subject.transport.paused
        subject.hear(chunk(b"y") + b"0\r\n\r\n")  # had been read already
        assert not subject.transport.paused
        assert subject.released == 1
        response.pause()
        response.resume()
        response.abort()
        assert (subject.transport.paused, subject.transport.closed) == (False, False)
        assert advance(response.take()) == b"xy"


def test_a_worker_that_resets_the_end_of_a_body_has_not_ended_it() -> None:
    with line() as subject:
        exchange = subject.ask()
        subject.hear(b"HTTP/1.1 200 OK\r\n\r\npart")
        response = advance(exchange)
        assert response is not None
        subject.lose(ConnectionResetError())
        assert advance(response.take()) == b"part"
        with pytest.raises(WorkerBroke):
            advance(response.take())
