"""Token counts as engines report them, in any of the three spellings the endpoints use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson


class Usage(NamedTuple):
    """Tokens of one answer. `cached_tokens` are those of `prompt_tokens` that the prefix cache served."""

    prompt_tokens: int
    cached_tokens: int
    output_tokens: int

    def merge(self, later: Usage) -> Usage:
        """Counts only grow in a stream: Anthropic's events give the prompt first and the output last."""
        return Usage(*(max(pair) for pair in zip(self, later, strict=True)))


NO_USAGE = Usage(0, 0, 0)


def read_usage(document: Mapping[str, Any]) -> Usage | None:
    """The usage of a JSON answer or event, None when it has none.

    Chat, completions, embeddings: `usage.prompt_tokens`, `completion_tokens`, `prompt_tokens_details.cached_tokens`.
    Responses: `[response.]usage.input_tokens`, `output_tokens`, `input_tokens_details.cached_tokens`.
    Messages: `[message.]usage.input_tokens`, `output_tokens`, `cache_read_input_tokens` (not part of input_tokens).
    """
    usage = document.get("usage")
    if usage is None:
        for wrapper in ("response", "message"):
            inner = document.get(wrapper)
            if isinstance(inner, dict) and isinstance(inner.get("usage"), dict):
                usage = inner["usage"]
    if not isinstance(usage, dict):
        return None
    if "prompt_tokens" in usage:
        details = usage.get("prompt_tokens_details")
        cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
        prompt = _count(usage.get("prompt_tokens"))
        return Usage(prompt, min(cached, prompt), _count(usage.get("completion_tokens")))
    if "input_tokens" in usage or "output_tokens" in usage:
        prompt = _count(usage.get("input_tokens"))
        details = usage.get("input_tokens_details")
        if isinstance(details, dict):
            cached = min(_count(details.get("cached_tokens")), prompt)
        else:
            cached = _count(usage.get("cache_read_input_tokens"))
            prompt += cached
        return Usage(prompt, cached, _count(usage.get("output_tokens")))
    if "total_tokens" in usage:
        return Usage(_count(usage.get("total_tokens")), 0, 0)
    return None


def find_usage(body: bytes) -> Usage | None:
    """The usage of a whole JSON answer, without parsing a large one: the `usage` object is cut out and parsed alone.

    A large answer is a long generation or a batch of embeddings, milliseconds to parse. The raw bytes `"usage":` are
    a key and never text, whose quotes would be escaped.
    """
    if len(body) > 8192:
        start = body.rfind(b'"usage":')
        if start < 0:
            return None
        opening = body.find(b"{", start, start + 16)
        depth, end = 0, opening
        while opening >= 0 and end < min(len(body), opening + 4096):
            if body[end] == 0x7B:
                depth += 1
            elif body[end] == 0x7D:
                depth -= 1
                if depth == 0:
                    body = b'{"usage":' + body[opening : end + 1] + b"}"
                    break
            end += 1
        else:
            return None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return read_usage(document) if isinstance(document, dict) else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
