"""A streamed answer on its way through: bytes pass as they came, and only what must be read is read.

The states of one stream:

| from             | on                                                   | to      |
|------------------|------------------------------------------------------|---------|
| opening          | a comment                                            | opening |
| opening          | an event that is none of the below                   | flowing |
| opening, flowing | the endpoint's terminal event                        | ended   |
| opening, flowing | an error event, an oversized event, bytes that stop  | broken  |
| ended, broken    | anything                                             | itself  |

A broken stream ends with one error event and never with the terminal event, so that no client takes a part for the
whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, cast

import orjson

from gateway.errors import GatewayError, WorkerBroke
from gateway.protocol import sse
from gateway.protocol.endpoints import Endpoint
from gateway.protocol.usage import Usage, read_usage

State = Literal["opening", "flowing", "ended", "broken"]

_OVER: Final[tuple[State, State]] = ("ended", "broken")

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024  # a single event above this is a fault of the worker, not an answer

FrameError = Callable[[Mapping[str, Any]], GatewayError | None]


class StreamRelay:
    """Feeds on what a worker streams and gives what the client should get.

    `engine_model` is the name inside the worker's events, `asked_model` the one the client used; `keep_usage` is
    whether the client asked for the usage event itself.
    """

    __slots__ = (
        "_cuts_usage",
        "_frame_error",
        "_openings",
        "_renames",
        "_tail",
        "_token_events",
        "_token_mark",
        "_triggers",
        "endpoint",
        "error",
        "events",
        "state",
        "usage",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        engine_model: str,
        asked_model: str,
        keep_usage: bool,
        frame_error: FrameError,
        choices: int = 1,
    ) -> None:
        self.endpoint = endpoint
        self.state: State = "opening"
        self.events = 0  # passed on, comments left out
        self.usage: Usage | None = None
        self.error: GatewayError | None = None
        self._cuts_usage = endpoint.usage_on_request and not keep_usage
        self._frame_error = frame_error
        self._openings = choices if endpoint.opened else 0
        self._token_events = 0
        self._token_mark = endpoint.token_mark
        self._renames = renames(engine_model, asked_model)
        self._tail = b""
        # Raw quotes delimit keys and values and never stand inside a text, where they are escaped.
        self._triggers = (b'"usage"', b'"error"', *endpoint.terminal)

    @property
    def tokens(self) -> int:
        """Events so far that bring output, those that open a choice left out: the closest thing to a count of tokens
        when no usage comes. What an engine makes while an event is being sent it sends in one; and it may keep tokens
        to itself, as while it reads a call of a tool out of them."""
        return max(0, self._token_events - self._openings)

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on for `data`; empty while an event is incomplete or after the stream has ended."""
        if self.state in _OVER:
            return b""
        if self._tail:
            data = self._tail + data
            self._tail = b""
        end = sse.boundary(data)
        if end != len(data):
            self._tail = data[end:]
            data = data[:end]
            if len(self._tail) > MAX_EVENT_BYTES:
                return self._pass(data) + self.broke(_oversized())
        return self._pass(data) if data else b""

    def finish(self) -> bytes:
        """What to send when the worker's body has ended: nothing after a clean end, otherwise the error event."""
        passed = self.feed(b"\n") if self._tail.endswith(b"\r") else b""  # that CR was no half of a CRLF after all
        return passed + self.broke(WorkerBroke("The worker's stream stopped before its end."))

    def broke(self, error: GatewayError) -> bytes:
        """The error event that ends this stream; empty when it has already ended."""
        if self.state in _OVER:
            return b""
        self.state = "broken"
        self.error = error
        return error_event(self.endpoint, error)

    def _pass(self, data: bytes) -> bytes:
        # One search per trigger in C; JSON is parsed only from the event on that has one, which in a burst that brings
        # a whole stream at once is the last of hundreds.
        found = [at for trigger in self._triggers if (at := data.find(trigger)) >= 0]
        if len(data) > MAX_EVENT_BYTES:
            data = self._inspect(data)
        elif not found:
            self._count(data)
        else:
            start = _event_start(data, min(found))
            self._count(data[:start])
            data = data[:start] + self._inspect(data[start:])
        for old, new in self._renames:
            if old in data:
                data = data.replace(old, new)
        return data

    def _count(self, data: bytes) -> None:
        """Events that need no inspection."""
        lines = sse.count(data)
        self.events += lines
        self._token_events += data.count(self._token_mark) if self._token_mark else lines
        if lines and self.state == "opening":
            self.state = "flowing"

    def _inspect(self, data: bytes) -> bytes:
        passed: list[bytes] = []
        for event in sse.split(data):
            passed.append(self._inspect_event(event))
            if self.state in _OVER:
                break
        return b"".join(passed)

    def _inspect_event(self, event: sse.Event) -> bytes:
        if len(event.raw) > MAX_EVENT_BYTES:
            return self.broke(_oversized())
        lines = sse.count(event.raw)
        if not lines:  # a comment (keep-alive)
            return event.raw
        if event.data.startswith(b"[DONE]"):
            self.state = "ended"
            return event.raw
        frame = _json_object(event.data)
        error = None if frame is None else self._frame_error(frame)
        if error is not None:
            return self.broke(error)
        self.state = "flowing"
        self.events += lines
        if self._token_mark:
            self._token_events += event.raw.count(self._token_mark)
        elif frame is None or frame.get("choices") != []:  # else the event of the usage
            self._token_events += lines
        if frame is None:  # something only the client understands
            return event.raw
        if event.type in self.endpoint.terminal_types or frame.get("type") in self.endpoint.terminal_types:
            self.state = "ended"
        usage = read_usage(frame)
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage.merge(usage)
        if not self._cuts_usage or "usage" not in frame:
            return event.raw
        # The client did not ask for usage, the gateway did: the usage event goes, a usage field in another is cut.
        if frame.pop("usage") is not None and not frame.get("choices"):
            self.events -= lines
            return b""
        return b"data: %b\n\n" % orjson.dumps(frame)


def _event_start(data: bytes, at: int) -> int:
    """Where the event begins that has the byte at `at`, or an earlier event does where lines end in CR."""
    blank = -1 if b"\r" in data else data.rfind(b"\n\n", 0, at)
    return 0 if blank < 0 else blank + 2


def renames(engine_model: str, asked_model: str) -> tuple[tuple[bytes, bytes], ...]:
    """Byte replacements that turn the engine's `model` field into the asked one, compact or spaced.

    Safe on raw JSON: inside a string value the quotes of such a field would be escaped and so not match.
    """
    return () if engine_model == asked_model else _other_names(engine_model, asked_model)


@functools.lru_cache(maxsize=1024)
def _other_names(engine_model: str, asked_model: str) -> tuple[tuple[bytes, bytes], ...]:
    old, new = orjson.dumps(engine_model), orjson.dumps(asked_model)
    return ((b'"model":' + old, b'"model":' + new), (b'"model": ' + old, b'"model": ' + new))


def error_event(endpoint: Endpoint, error: GatewayError) -> bytes:
    """The last event of a broken stream, in the OpenAI error shape, with the endpoint's own framing around it."""
    if endpoint.error_event_type:
        body = orjson.dumps({"type": "error", "error": error.fields()})
        return b"event: error\ndata: %b\n\n" % body
    return b"data: %b\n\n" % error.body()


def _oversized() -> WorkerBroke:
    return WorkerBroke(f"The worker sent an event above {MAX_EVENT_BYTES} bytes.")


def _json_object(data: bytes) -> dict[str, Any] | None:
    try:
        frame = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", frame) if isinstance(frame, dict) else None
