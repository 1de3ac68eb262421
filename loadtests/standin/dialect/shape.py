"""What the dialect's documents and events are made of.

Key order, nulls and separators are those of a captured worker. What differs from answer to answer of one shape is only
the id and the creation time, so a template is built once per shape, with slots of the final width in their place, and
filling it is two byte replacements. That is what lets one core give more answers than any relay can pass on.
"""

from __future__ import annotations

import itertools
import secrets
from typing import NamedTuple

import orjson

from loadtests.standin.tokens import generated

Json = dict[str, object]

FINGERPRINT = "vllm-0.32.0-standin0"
CREATED_SLOT = 9876543210
_CREATED = b"9876543210"
LAST_CHUNK = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"

_prefix = secrets.token_hex(4)
_serial = itertools.count(1)


class Shape(NamedTuple):
    """Everything that decides an answer except its id and time."""

    model: str
    prompt_tokens: int
    tokens: int = 1
    limited: bool = False  # the request's limit ended it, not the model
    choices: int = 1  # of all prompts
    each: int = 1  # of one prompt
    cached_tokens: int | None = None  # None: the worker runs without --enable-prompt-tokens-details
    id_width: int = 16
    usage: bool = False  # streams: stream_options.include_usage
    continuous: bool = False  # streams: stream_options.continuous_usage_stats
    limit: int | None = None  # what /v1/responses echoes as max_output_tokens

    @property
    def finish_reason(self) -> str:
        return "length" if self.limited else "stop"

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each token."""
        return generated(self.tokens, not self.limited)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def slot(self) -> str:
        return "~" * self.id_width


class Frames(NamedTuple):
    """A stream's events, each framed as one HTTP chunk as vLLM's server does."""

    heading: tuple[bytes, ...]  # before the first token
    tokens: tuple[bytes, ...]  # one per token with text
    closing: tuple[bytes, ...]


def new_id() -> str:
    """Sixteen hexadecimal digits, as vLLM's random_uuid gives; other workers give others."""
    return f"{_prefix}{next(_serial):08x}"


def fill(template: bytes, ident: str, created: int) -> bytes:
    """`ident` must be as wide as the shape's id_width, or chunk sizes and lengths would lie."""
    return template.replace(b"~" * len(ident), ident.encode()).replace(_CREATED, b"%010d" % created)


def dumps(document: Json) -> bytes:
    return orjson.dumps(document)


def data(document: Json) -> bytes:
    """An event as OpenAI's endpoints write it."""
    return b"data: " + orjson.dumps(document) + b"\n\n"


def event(kind: str, document: Json) -> bytes:
    """An event with its name on a line of its own."""
    return b"event: " + kind.encode() + b"\n" + data(document)


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def chunked(heading: list[bytes], tokens: list[bytes], closing: list[bytes]) -> Frames:
    return Frames(tuple(map(chunk, heading)), tuple(map(chunk, tokens)), tuple(map(chunk, closing)))
