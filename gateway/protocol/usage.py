"""Token counts as engines report them, in any of the three spellings the endpoints use."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

import orjson

from gateway.tuples import made

PARSED_WHOLE_BYTES: Final = 256
MAX_COUNT: Final = 10**12  # no answer has more tokens; what is above would not fit the ledger either


class Usage(NamedTuple):
    """Tokens of one answer. `cached_tokens` are those of `prompt_tokens` that the prefix cache served."""

    prompt_tokens: int
    cached_tokens: int
    output_tokens: int

    def merge(self, later: Usage) -> Usage:
        """Counts only grow in a stream: Anthropic's events give the prompt first and the output last."""
        return Usage(*(max(pair) for pair in zip(self, later, strict=True)))


NO_USAGE: Final = Usage(0, 0, 0)

_loads: Final = orjson.loads


def read_usage(document: dict[str, Any]) -> Usage | None:
    """The usage of a JSON answer or event, None when it has none.

    Chat, completions, embeddings: `usage.prompt_tokens`, `completion_tokens`, `prompt_tokens_details.cached_tokens`.
    Responses: `[response.]usage.input_tokens`, `output_tokens`, `input_tokens_details.cached_tokens`.
    Messages: `[message.]usage.input_tokens`, `output_tokens`, and beside input_tokens, not part of them,
    `cache_read_input_tokens` and `cache_creation_input_tokens`.
    """
    usage = document.get("usage")
    if usage is None:
        for wrapper in ("response", "message"):
            inner = document.get(wrapper)
            if isinstance(inner, dict):
                usage = cast("dict[str, Any]", inner).get("usage", usage)
    if not isinstance(usage, dict):
        return None
    usage = cast("dict[str, Any]", usage)
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        prompt = _count(usage, "prompt_tokens")
        cached = _cached(usage, "prompt_tokens_details", prompt)
        return made(Usage, (prompt, cached, _count(usage, "completion_tokens")))
    if "input_tokens" in usage or "output_tokens" in usage:
        own, read = _count(usage, "input_tokens"), _count(usage, "cache_read_input_tokens")
        prompt = own + read + _count(usage, "cache_creation_input_tokens")
        return made(Usage, (prompt, read + _cached(usage, "input_tokens_details", own), _count(usage, "output_tokens")))
    if "total_tokens" in usage:
        return Usage(_count(usage, "total_tokens"), 0, 0)
    return None


def find_usage(body: bytes) -> Usage | None:
    """The usage of a whole JSON answer, without parsing all of a large one.

    A large answer is a long generation or a batch of embeddings, milliseconds to parse, with its usage near the end.
    From a key at the top level on, and only from there, the rest of the object is an object of its own once it has an
    opening brace; that also tells the raw bytes `"usage"` as such a key from any other place they may stand in.
    """
    if len(body) > PARSED_WHOLE_BYTES:
        start = body.rfind(b'"usage"')
        if start < 0:
            return None
        if not body.endswith(b"\\", 0, start):  # else the end of a text with an escaped quote in it
            rest = json_object(b"{" + body[start:])
            if rest is not None and rest.get("usage") is not None:
                return read_usage(rest)
    document = json_object(body)
    return None if document is None else read_usage(document)


def json_object(data: bytes) -> dict[str, Any] | None:
    try:
        document = _loads(data)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", document) if isinstance(document, dict) else None


def _cached(usage: dict[str, Any], details: str, most: int) -> int:
    inner = usage.get(details)
    return min(_count(cast("dict[str, Any]", inner), "cached_tokens"), most) if isinstance(inner, dict) else 0


def _count(fields: dict[str, Any], name: str) -> int:
    """A count as the engine gave it; 0 for what no engine can have counted."""
    value = fields.get(name)
    return value if type(value) is int and 0 < value <= MAX_COUNT else 0
