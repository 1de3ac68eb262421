"""A streamed answer on its way through: bytes pass as they came, and only what must be read is read.

The states of one stream:

| from    | on                                                   | to      |
|---------|------------------------------------------------------|---------|
| opening | the first event is an error                          | broken  |
| opening | the first event is anything else                     | flowing |
| flowing | the endpoint's terminal event                        | ended   |
| flowing | an error event, an oversized event, bytes that stop  | broken  |
| ended, broken | anything                                       | itself  |

A broken stream ends with one error event and never with the terminal event, so that no client takes a part for the
whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import orjson

from gateway.errors import GatewayError, WorkerBroke
from gateway.protocol import sse
from gateway.protocol.endpoints import Endpoint
from gateway.protocol.usage import Usage, read_usage

State = Literal["opening", "flowing", "ended", "broken"]

MAX_EVENT_BYTES = 4 * 1024 * 1024  # a single event above this is a fault of the worker, not an answer

FrameError = Callable[[Mapping[str, Any]], GatewayError | None]


class StreamRelay:
    """Feeds on what a worker streams and gives what the client should get.

    `engine_model` is the name inside the worker's events, `asked_model` the one the client used; `keep_usage` is
    whether the client asked for the usage event itself.
    """

    __slots__ = (
        "_frame_error",
        "_keep_usage",
        "_renames",
        "_tail",
        "_terminal",
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
    ) -> None:
        self.endpoint = endpoint
        self.state: State = "opening"
        self.events = 0  # complete events seen, the closest thing to a token count when no usage comes
        self.usage: Usage | None = None
        self.error: GatewayError | None = None
        self._frame_error = frame_error
        self._keep_usage = keep_usage
        self._renames = renames(engine_model, asked_model)
        self._tail = b""
        self._triggers = (b'"usage":', b'"error":', *endpoint.terminal)
        self._terminal = endpoint.terminal

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on for `data`; empty while an event is incomplete or after the stream has ended."""
        if self._tail:
            data = self._tail + data
            self._tail = b""
        end = sse.boundary(data)
        if end != len(data):
            self._tail = data[end:]
            data = data[:end]
            if len(self._tail) > MAX_EVENT_BYTES:
                return data + self.broke(WorkerBroke(f"The worker sent an event above {MAX_EVENT_BYTES} bytes."))
        if not data:
            return b""
        # One pass per trigger in C over a few hundred bytes; JSON is parsed only in the few events that have one.
        for trigger in self._triggers:
            if trigger in data:
                data = self._inspect(data)
                break
        else:
            if self.state == "opening":
                self.state = "flowing"
            elif self.state != "flowing":
                return b""
            self.events += data.count(b"\n\n") or 1
        for old, new in self._renames:
            if old in data:
                data = data.replace(old, new)
        return data

    def finish(self) -> bytes:
        """What to send when the worker's body has ended: nothing after a clean end, otherwise the error event."""
        if self.state in ("ended", "broken"):
            return b""
        return self.broke(WorkerBroke("The worker's stream stopped before its end."))

    def broke(self, error: GatewayError) -> bytes:
        """The error event that ends this stream; empty when it has already ended."""
        if self.state in ("ended", "broken"):
            return b""
        self.state = "broken"
        self.error = error
        return error_event(self.endpoint, error)

    def _inspect(self, data: bytes) -> bytes:
        passed: list[bytes] = []
        for event in sse.split(data):
            if self.state in ("ended", "broken"):
                break
            passed.append(self._inspect_event(event))
        return b"".join(passed)

    def _inspect_event(self, event: sse.Event) -> bytes:
        if event.data == b"[DONE]":
            self.state = "ended"
            return event.raw
        frame = _json_object(event.data)
        if frame is None:  # a comment (keep-alive) or something only the client understands
            return event.raw
        error = self._frame_error(frame)
        if error is not None:
            return self.broke(error)
        self.state = "flowing"
        self.events += 1
        if event.type in self.endpoint.terminal_types or frame.get("type") in self.endpoint.terminal_types:
            self.state = "ended"
        usage = read_usage(frame)
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage.merge(usage)
            if self.endpoint.usage_on_request and not self._keep_usage:
                return self._without_usage(event, frame)
        elif self.endpoint.usage_on_request and not self._keep_usage and "usage" in frame:
            return self._without_usage(event, frame)
        return event.raw

    def _without_usage(self, event: sse.Event, frame: dict[str, Any]) -> bytes:
        """The client did not ask for usage, the gateway did: the usage event goes, a usage field in another is cut."""
        if not frame.get("choices"):
            self.events -= 1
            return b""
        del frame["usage"]
        return b"data: %b\n\n" % orjson.dumps(frame)


def renames(engine_model: str, asked_model: str) -> tuple[tuple[bytes, bytes], ...]:
    """Byte replacements that turn the engine's `model` field into the asked one, compact or spaced.

    Safe on raw JSON: inside a string value the quotes of such a field would be escaped and so not match.
    """
    if engine_model == asked_model:
        return ()
    old, new = orjson.dumps(engine_model), orjson.dumps(asked_model)
    return ((b'"model":' + old, b'"model":' + new), (b'"model": ' + old, b'"model": ' + new))


def error_event(endpoint: Endpoint, error: GatewayError) -> bytes:
    """The last event of a broken stream, in the OpenAI error shape, with the endpoint's own framing around it."""
    if endpoint.error_event_type:
        body = orjson.dumps({"type": "error", "error": error.fields()})
        return b"event: error\ndata: %b\n\n" % body
    return b"data: %b\n\n" % error.body()


def _json_object(data: bytes) -> dict[str, Any] | None:
    try:
        frame = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return frame if isinstance(frame, dict) else None
