"""How the stand-in behaves for one request: what it generates, how fast, and what it does wrong on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, cast, get_args

Fault = Literal[
    "refuse",  # an error status instead of an answer; `status` says which
    "error_frame",  # a 200 stream, `after` events, then vLLM's error frame and [DONE]
    "die",  # headers, `after` events (or half a document), then the connection closes
    "reset",  # RST after `after` events; with `after` 0 instead of any answer
    "half_close",  # headers, `after` events, then only the sending side closes
    "stuck",  # headers, `after` events, then nothing until the client leaves
    "silent",  # the request is read, nothing is ever said
    "hang_up",  # the connection closes without an answer
    "close_after",  # a whole answer, then the connection closes unannounced: a stale connection in someone's pool
    "trickle",  # the whole answer, `slice` bytes at a time, `pace` seconds apart
    "garbage",  # bytes that are not HTTP
    "bad_chunk",  # a stream whose chunk framing breaks after `after` events
    "short_body",  # content-length promises more than is sent before the connection closes
    "long_body",  # content-length promises less than is sent
]
FAULTS: frozenset[str] = frozenset(get_args(Fault))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One request's script. The default answers at once and does nothing wrong. Times are seconds."""

    tokens: int = 16  # generated, the end-of-sequence token included; the request's own limit still cuts
    cached_tokens: int = 0  # of the prompt, reported as served by the prefix cache
    header_delay: float = 0.0
    first_token_delay: float = 0.0  # after the headers
    pace: float = 0.0  # between tokens; 0 sends a stream in one burst
    keep_alive: float = 0.0  # an SSE comment for every this many silent seconds; 0 sends none
    fault: Fault | None = None
    status: int = 503
    after: int = 0
    slice: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value: object = getattr(self, field.name)
            if field.name == "fault":
                if value is not None and value not in FAULTS:
                    raise ValueError(f"fault {value!r} is not one of {', '.join(sorted(FAULTS))}")
            elif isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ValueError(f"{field.name} must be a number from 0 up, not {value!r}")
        if self.tokens < 1 or self.slice < 1:
            raise ValueError("tokens and slice must be at least 1")

    @property
    def is_instant(self) -> bool:
        """True when the answer can leave in the same turn the request arrived in."""
        return not (self.fault or self.header_delay or self.first_token_delay or self.pace)

    def changed(self, wish: object) -> Behaviour:
        """This behaviour with the fields a request asked for; ValueError when it asked for nonsense."""
        if not isinstance(wish, Mapping):
            raise ValueError(f"a stand-in wish is a JSON object, not {wish!r}")
        try:
            return replace(self, **cast("Mapping[str, object]", wish))  # pyright: ignore[reportArgumentType]
        except TypeError as error:
            known = ", ".join(field.name for field in fields(self))
            raise ValueError(f"{error}; known fields: {known}") from None


INSTANT = Behaviour()
