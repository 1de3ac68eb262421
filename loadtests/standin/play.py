"""Replies on the wire: at the pace that was asked for, and broken where that was asked for."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from email.utils import formatdate
from http import HTTPStatus
from typing import Literal, Protocol

from loadtests.standin.behaviour import Behaviour
from loadtests.standin.dialect.shape import LAST_CHUNK, chunk
from loadtests.standin.engine import Answer, Stream

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_STREAM_FIELDS = b"content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n"
_PIECE = 64 * 1024  # a burst is written in pieces of this size, waiting for the client between them
_GARBAGE = b"\x16\x03\x01\x02\x00this is not HTTP\r\n\r\n"
_KEEP_ALIVE = chunk(b": keep-alive\n\n")

End = Literal["answered", "faulted"]


class Wire(Protocol):
    """What a player may do to its connection. A client that leaves cancels the player."""

    transport: asyncio.Transport
    keep: bool  # the client wants to go on with this connection

    @property
    def has_queue(self) -> bool: ...
    def turn(self, said: Answer | Stream) -> AbstractAsyncContextManager[None]: ...
    async def send(self, data: bytes) -> None: ...
    async def rest(self, seconds: float) -> None: ...
    def count(self, tokens: int) -> None: ...
    def reset(self) -> None: ...
    @property
    def tokens_sent(self) -> int: ...


def whole(said: Answer, keep: bool, length: int | None = None) -> bytes:
    """A document with its head; `length` is what the head claims when it is to lie."""
    fields = b"content-length: %d\r\n" % (len(said.body) if length is None else length)
    if said.content_type:
        fields += b"content-type: %b\r\n" % said.content_type
    return _head(said.status, fields + b"vary: Origin\r\n", keep) + said.body


async def play_answer(wire: Wire, said: Answer) -> End:
    """A document, late or broken. An engine says it when its last token is done, so the pace counts too."""
    behaviour = said.behaviour
    assert behaviour is not None  # without one it is sent at once
    await _pause(wire, behaviour.header_delay)
    if await _broken_before_headers(wire, behaviour):
        return "faulted"
    async with wire.turn(said):
        return await _document(wire, said, behaviour)


async def _document(wire: Wire, said: Answer, behaviour: Behaviour) -> End:
    fault = behaviour.fault
    document = whole(said, wire.keep)
    if fault in ("stuck", "die"):
        sent = len(document) - len(said.body) + (len(said.body) // 2 if fault == "die" else 0)
        await wire.send(document[:sent])
        return await _end_badly(wire, fault)
    await _pause(wire, behaviour.first_token_delay + (behaviour.pace * said.tokens if fault != "trickle" else 0))
    wire.count(said.tokens)
    if fault == "short_body":
        await wire.send(whole(said, wire.keep, len(said.body) + 100))
        wire.transport.close()
        return "faulted"
    if fault == "long_body":
        await wire.send(whole(said, wire.keep, len(said.body) // 2))
    elif fault == "trickle":
        await _trickle(wire, document, behaviour)
    else:
        await wire.send(document)
    return _answered(wire, fault)


async def play_stream(wire: Wire, said: Stream) -> End:
    """A stream: in one burst, event by event, or up to where its fault strikes."""
    behaviour = said.behaviour
    await _pause(wire, behaviour.header_delay)
    if await _broken_before_headers(wire, behaviour):
        return "faulted"
    head = _head(200, _STREAM_FIELDS, wire.keep)
    if wire.has_queue:  # an engine says 200 before the request's turn has come
        await wire.send(head)
        head = b""
    async with wire.turn(said):
        return await _stream(wire, said, head)


async def _stream(wire: Wire, said: Stream, head: bytes) -> End:
    behaviour, frames = said.behaviour, said.frames
    fault = behaviour.fault
    paced = behaviour.first_token_delay or behaviour.pace
    if fault == "trickle" or (fault in (None, "close_after") and not paced):
        everything = b"".join((head, *frames.heading, *frames.tokens, *frames.closing, LAST_CHUNK))
        await (_trickle if fault else _burst)(wire, said.filled(everything), behaviour)
        wire.count(said.tokens)
        return _answered(wire, fault)
    if head:
        await wire.send(head)
    await _pause(wire, behaviour.first_token_delay, behaviour.keep_alive)
    if fault in (None, "close_after"):
        await _events(wire, said, len(frames.heading) + len(frames.tokens))
        await wire.send(said.filled(b"".join(frames.closing)) + LAST_CHUNK)
        wire.count(said.tokens - wire.tokens_sent)
        return _answered(wire, fault)
    await _events(wire, said, behaviour.after)
    error = said.error_events() if fault == "error_frame" else None
    if error is None:
        return await _end_badly(wire, fault)
    await wire.send(error + LAST_CHUNK)
    return "answered"


def _answered(wire: Wire, fault: str | None) -> End:
    if fault == "close_after":
        wire.transport.close()
    return "answered"


async def _events(wire: Wire, said: Stream, count: int) -> None:
    """The first `count` events: the heading in one piece with the first token, then one token every `pace` seconds."""
    loop, pace = asyncio.get_running_loop(), said.behaviour.pace
    heading = said.frames.heading[:count]
    tokens = said.frames.tokens[: count - len(heading)]
    pending = b"".join(heading)
    due = loop.time()
    for number, frame in enumerate(tokens):
        if number and pace and number % said.choices == 0:
            due += pace
            await _pause(wire, due - loop.time(), said.behaviour.keep_alive)
        await wire.send(said.filled(pending + frame))
        wire.count(1)
        pending = b""
    if pending:
        await wire.send(said.filled(pending))


async def _burst(wire: Wire, data: bytes, behaviour: Behaviour) -> None:
    for start in range(0, len(data), _PIECE):
        await wire.send(data[start : start + _PIECE])


async def _trickle(wire: Wire, data: bytes, behaviour: Behaviour) -> None:
    for start in range(0, len(data), behaviour.slice):
        await wire.send(data[start : start + behaviour.slice])
        await asyncio.sleep(behaviour.pace)


async def _pause(wire: Wire, seconds: float, keep_alive: float = 0.0) -> None:
    while keep_alive and seconds > keep_alive:
        await wire.rest(keep_alive)
        seconds -= keep_alive
        await wire.send(_KEEP_ALIVE)
    if seconds > 0:
        await wire.rest(seconds)


async def _broken_before_headers(wire: Wire, behaviour: Behaviour) -> bool:
    fault = behaviour.fault
    if fault == "silent":
        await _until_client_leaves()
    elif fault == "hang_up":
        wire.transport.close()
    elif fault == "garbage":
        await wire.send(_GARBAGE)
    elif fault == "reset" and not behaviour.after:
        wire.reset()
    else:
        return False
    return True


async def _end_badly(wire: Wire, fault: str | None) -> End:
    if fault == "stuck":
        await _until_client_leaves()
    elif fault == "half_close":
        wire.transport.write_eof()
    elif fault == "reset":
        await asyncio.sleep(0.02)  # a reset discards what is still unsent: let the events out first
        wire.reset()
    else:
        if fault == "bad_chunk":
            await wire.send(b"zz\r\nthis chunk has no size\r\n")
        wire.transport.close()
    return "faulted"


async def _until_client_leaves() -> None:
    """Only the cancellation that a lost connection brings ends this."""
    await asyncio.get_running_loop().create_future()


def _head(status: int, fields: bytes, keep: bool) -> bytes:
    close = b"" if keep else b"connection: close\r\n"
    reason = _REASONS.get(status, b"")
    return b"HTTP/1.1 %d %b\r\n%bserver: uvicorn\r\n%b%b\r\n" % (status, reason, _date_field(), fields, close)


_date: tuple[int, bytes] = (0, b"")


def _date_field() -> bytes:
    """Made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, b"date: %b\r\n" % formatdate(now, usegmt=True).encode())
    return _date[1]
