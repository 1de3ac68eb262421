"""One connection of the load generator: writes a prepared request, counts what comes back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

import httptools
import orjson

DONE = b"data: [DONE]\n\n"
USAGE_BYTES = 1024  # at the end of an answer, in which its usage stands
STALE = 3.0  # seconds; servers close idle connections after 5 or more


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and what they carry besides their body."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    more_ports: tuple[int, ...] = ()  # connections go to the URL's port and to these in turn

    @property
    def ports(self) -> tuple[int, ...]:
        return (self.port, *self.more_ports)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80


def chat_request(
    target: Target, model: str, *, stream: bool, tokens: int, extra: Mapping[str, object] | None = None
) -> bytes:
    """A chat request of about 330 bytes, ready to write."""
    body: dict[str, object] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a careful assistant that answers in one short paragraph."},
            {"role": "user", "content": "What does a gateway in front of inference workers do, and for whom?"},
        ],
        "max_tokens": tokens,
        "temperature": 0.7,
    }
    if stream:
        body["stream"] = True
    return post(target, "/v1/chat/completions", body | dict(extra or {}))


def post(target: Target, path: str, body: Mapping[str, object]) -> bytes:
    """A request with this document, ready to write."""
    payload = orjson.dumps(body)
    lines = [f"POST {path} HTTP/1.1\r\nhost: {target.host}:{target.port}"]
    lines += [f"{name}: {value}" for name, value in target.headers]
    lines.append(f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n")
    return "\r\n".join(lines).encode() + payload


class Exchange:
    """What one request led to. Times are perf_counter's: a loop's own clock may tick in milliseconds."""

    __slots__ = (
        "began",
        "ended",
        "error",
        "event_times",
        "events",
        "first",
        "intended",
        "keep",
        "refusal",
        "started",
        "status",
        "tail",
    )

    def __init__(
        self,
        intended: float,
        *,
        event_times: list[float] | None = None,
        began: Callable[[], None] | None = None,
        keep: int = len(DONE),
    ) -> None:
        self.intended = intended
        self.started = intended
        self.first = 0.0  # when the body began
        self.ended = 0.0
        self.status = 0
        self.events = 0
        self.tail = b""  # the last bytes of the body, as many as are to be kept
        self.keep = keep
        self.error: str | None = None
        self.refusal: str | None = None  # said inside a stream that began well
        self.event_times = event_times  # one entry per event, for paced streams
        self.began = began  # called once, with the first byte of the body


class Connection(asyncio.Protocol):
    """Carries one exchange at a time and tells `finished` when it is over."""

    __slots__ = ("_exchange", "_finished", "_idle_since", "_parser", "_read_at", "_transport", "events")

    def __init__(self, finished: Callable[[Connection, Exchange], None]) -> None:
        self.events = 0  # of all its exchanges
        self._finished = finished
        self._exchange: Exchange | None = None
        self._idle_since = self._read_at = perf_counter()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_fresh(self) -> bool:
        """Open, and not idle for so long that the server may be about to close it."""
        return self.is_open and perf_counter() - self._idle_since < STALE

    def start(self, exchange: Exchange, request: bytes) -> None:
        assert self._transport is not None
        self._exchange = exchange
        exchange.started = perf_counter()
        self._transport.write(request)

    def abort(self) -> None:
        """Leaves at once; an exchange under way is forgotten."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio and httptools --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._read_at = perf_counter()  # the time of all that this read brings
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._transport is not None:
                self._transport.abort()
            self._end(f"not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("connection lost")

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        tail = exchange.tail
        events = body.count(b"\n\n")
        if tail.endswith(b"\n") and not tail.endswith(b"\n\n") and body.startswith(b"\n"):
            events += 1  # the separator was split between two reads
        exchange.events += events
        self.events += events
        keep = exchange.keep
        exchange.tail = body[-keep:] if len(body) >= keep else (tail + body)[-keep:]
        if not exchange.first:
            exchange.first = self._read_at
            if body.startswith(b'data: {"error"'):
                exchange.refusal = "error event in a 200"
            if exchange.began is not None:
                exchange.began()
        if exchange.event_times is not None:
            exchange.event_times.extend([self._read_at] * events)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.status = self._parser.get_status_code()
            if not self._parser.should_keep_alive() and self._transport is not None:
                self._transport.close()
            self._end(exchange.refusal if exchange.status == 200 else f"status {exchange.status}")

    def _end(self, error: str | None) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        self._exchange = None
        exchange.ended = self._idle_since = perf_counter()
        exchange.error = error
        self._finished(self, exchange)


_TOKENS = re.compile(rb'"(prompt_tokens|completion_tokens|cached_tokens)":\s*(\d+)')


def reported_tokens(tail: bytes) -> dict[str, int]:
    """The counts in the usage at the end of an answer; none when it reports none."""
    return {name.decode(): int(count) for name, count in _TOKENS.findall(tail)}


_turns = count()


async def connect(target: Target, finished: Callable[[Connection, Exchange], None]) -> Connection:
    loop = asyncio.get_running_loop()
    port = target.ports[next(_turns) % len(target.ports)]
    _, connection = await loop.create_connection(lambda: Connection(finished), target.host, port)
    return connection
