"""Anthropic's Messages API as vLLM answers it: chat underneath, so the ids begin with chatcmpl."""

from __future__ import annotations

from functools import lru_cache

from loadtests.standin.dialect.shape import Frames, Json, Shape, chunked, dumps, event

# What vLLM's converter says when the chat stream under it carries an error: the error itself does not reach the client.
BROKEN = event("error", {"type": "error", "error": {"type": "internal_error", "message": "Internal server error"}})


def _stop_reason(shape: Shape) -> str:
    return "max_tokens" if shape.limited else "end_turn"


def _usage(shape: Shape) -> Json:
    """Anthropic counts cached tokens apart from the input; the two add up to vLLM's prompt."""
    cached = shape.cached_tokens
    usage: Json = {"input_tokens": shape.prompt_tokens - (cached or 0), "output_tokens": shape.tokens}
    if cached is not None:
        usage |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": cached}
    return usage


@lru_cache(maxsize=64)
def message(shape: Shape) -> bytes:
    return dumps(
        {
            "id": f"chatcmpl-{shape.slot}",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": shape.text}],
            "model": shape.model,
            "stop_reason": _stop_reason(shape),
            "usage": _usage(shape),
        }
    )


@lru_cache(maxsize=64)
def message_stream(shape: Shape) -> Frames:
    started: Json = {
        "id": f"chatcmpl-{shape.slot}",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": shape.model,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": shape.prompt_tokens, "output_tokens": 0},
    }

    def say(kind: str, fields: Json) -> bytes:
        return event(kind, {"type": kind, **fields})

    def delta(text: str) -> bytes:
        return say("content_block_delta", {"delta": {"type": "text_delta", "text": text}, "index": 0})

    heading = [
        say("message_start", {"message": started}),
        say("content_block_start", {"content_block": {"type": "text", "text": ""}, "index": 0}),
    ]
    ending: Json = {"stop_reason": _stop_reason(shape), "stop_sequence": None}
    closing = [
        say("content_block_stop", {"index": 0}),
        say("message_delta", {"delta": ending, "usage": _usage(shape)}),
        say("message_stop", {}),
    ]
    return chunked(heading, [delta(text) for text in shape.texts if text], closing)
