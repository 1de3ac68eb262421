"""The Responses API, whole and streamed."""

from __future__ import annotations

import itertools
from functools import lru_cache

from loadtests.standin.dialect.shape import CREATED_SLOT, Frames, Json, Shape, chunked, dumps, event

_MESSAGE_ID = "msg_00000000000000a1"


@lru_cache(maxsize=64)
def response(shape: Shape) -> bytes:
    return dumps(_finished(shape))


@lru_cache(maxsize=64)
def response_stream(shape: Shape) -> Frames:
    numbers = itertools.count()

    def numbered(kind: str, before: Json, after: Json | None = None) -> bytes:
        return event(kind, {**before, "sequence_number": next(numbers), **(after or {}), "type": kind})

    started = _document(shape, "in_progress", [], None)
    item: Json = {
        "id": _MESSAGE_ID,
        "content": [],
        "role": "assistant",
        "status": "in_progress",
        "type": "message",
        "phase": None,
    }
    part: Json = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
    place: Json = {"content_index": 0, "item_id": _MESSAGE_ID, "output_index": 0}
    heading = [
        numbered("response.created", {"response": started}),
        numbered("response.in_progress", {"response": started}),
        numbered("response.output_item.added", {"item": item, "output_index": 0}),
        numbered("response.content_part.added", {**place, "part": part}),
    ]

    def delta(text: str) -> Json:
        return {"content_index": 0, "delta": text, "item_id": _MESSAGE_ID, "logprobs": [], "output_index": 0}

    tokens = [numbered("response.output_text.delta", delta(text)) for text in shape.texts if text]
    said: Json = {"content_index": 0, "item_id": _MESSAGE_ID, "logprobs": [], "output_index": 0}
    closing = [
        numbered("response.output_text.done", said, {"text": shape.text}),
        numbered("response.content_part.done", {**place, "part": _part(shape.text)}),
        numbered("response.output_item.done", {"item": _item(shape.text), "output_index": 0}),
        numbered("response.completed", {"response": _finished(shape)}),
    ]
    return chunked(heading, tokens, closing)


def _part(text: str) -> Json:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": None}


def _item(text: str) -> Json:
    return {
        "id": _MESSAGE_ID,
        "content": [_part(text)],
        "role": "assistant",
        "status": "completed",
        "type": "message",
        "phase": None,
    }


def _finished(shape: Shape) -> Json:
    read: Json = {
        "cached_tokens": shape.cached_tokens or 0,
        "cache_write_tokens": 0,
        "input_tokens_per_turn": [],
        "cached_tokens_per_turn": [],
    }
    written: Json = {
        "reasoning_tokens": 0,
        "tool_output_tokens": 0,
        "output_tokens_per_turn": [],
        "tool_output_tokens_per_turn": [],
    }
    usage: Json = {
        "input_tokens": shape.prompt_tokens,
        "input_tokens_details": read,
        "output_tokens": shape.tokens,
        "output_tokens_details": written,
        "total_tokens": shape.prompt_tokens + shape.tokens,
    }
    return _document(shape, "incomplete" if shape.limited else "completed", [_item(shape.text)], usage)


def _document(shape: Shape, status: str, output: list[Json], usage: Json | None) -> Json:
    return {
        "id": f"resp_{shape.slot}",
        "created_at": CREATED_SLOT,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": None,
        "model": shape.model,
        "object": "response",
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "none",
        "tools": [],
        "top_p": 1.0,
        "background": False,
        "max_output_tokens": shape.limit,
        "max_tool_calls": None,
        "previous_response_id": None,
        "prompt": None,
        "reasoning": None,
        "service_tier": "auto",
        "status": status,
        "text": None,
        "top_logprobs": None,
        "truncation": "disabled",
        "usage": usage,
        "user": None,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "input_messages": None,
        "output_messages": None,
    }
