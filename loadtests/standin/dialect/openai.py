"""Chat completions and completions, whole and streamed."""

from __future__ import annotations

from functools import lru_cache

from loadtests.standin.dialect.shape import CREATED_SLOT, DONE, FINGERPRINT, Frames, Json, Shape, chunked, data, dumps


def _usage(prompt: int, completion: int) -> Json:
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


def _whole_usage(shape: Shape, created_cache_tokens: int | None) -> Json:
    """Only chat reports `created_cache_tokens`; completions leave it null."""
    details: Json | None = None
    if shape.cached_tokens is not None:
        details = {"cached_tokens": shape.cached_tokens, "created_cache_tokens": created_cache_tokens}
        details["multimodal_tokens"] = None
    usage = _usage(shape.prompt_tokens, shape.tokens * shape.choices)
    return usage | {"prompt_tokens_details": details, "completion_tokens_details": None}


def _last_usage(shape: Shape, more: Json) -> Json:
    """The last chunk of a stream leaves out what is null."""
    usage = _usage(shape.prompt_tokens, shape.tokens * shape.choices)
    if shape.cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": shape.cached_tokens, **more}
    return usage


@lru_cache(maxsize=256)
def chat(shape: Shape) -> bytes:
    message: Json = {
        "role": "assistant",
        "content": shape.text,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": None,
    }
    ending: Json = {
        "message": message,
        "logprobs": None,
        "finish_reason": shape.finish_reason,
        "stop_reason": None,
        "token_ids": None,
        "routed_experts": None,
    }
    return dumps(
        {
            "id": f"chatcmpl-{shape.slot}",
            "object": "chat.completion",
            "created": CREATED_SLOT,
            "model": shape.model,
            "choices": [{"index": i, **ending} for i in range(shape.choices)],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": _whole_usage(shape, 0),
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "prompt_text": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
    )


@lru_cache(maxsize=256)
def completion(shape: Shape) -> bytes:
    choice: Json = {
        "text": shape.text,
        "logprobs": None,
        "finish_reason": shape.finish_reason,
        "stop_reason": None,
        "token_ids": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "routed_experts": None,
    }
    return dumps(
        {
            "id": f"cmpl-{shape.slot}",
            "object": "text_completion",
            "created": CREATED_SLOT,
            "model": shape.model,
            "choices": [{"index": i, **choice} for i in range(shape.choices)],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": _whole_usage(shape, None),
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
    )


@lru_cache(maxsize=64)
def chat_stream(shape: Shape) -> Frames:
    base: Json = {
        "id": f"chatcmpl-{shape.slot}",
        "object": "chat.completion.chunk",
        "created": CREATED_SLOT,
        "model": shape.model,
    }

    def so_far(tokens: int) -> Json:
        if not shape.continuous:
            return {}
        return {"usage": {**_usage(shape.prompt_tokens, tokens), "completion_tokens_details": None}}

    heading: list[bytes] = []
    for index in range(shape.choices):
        delta: Json = {"role": "assistant", "content": ""}
        choice: Json = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        heading.append(data({**base, "choices": [choice], **so_far(0), "prompt_token_ids": None, "prompt_text": None}))
    tokens: list[bytes] = []
    for number, text in enumerate(shape.texts, start=1):
        last = number == shape.tokens
        for index in range(shape.choices):
            choice = {"index": index, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
            if last:
                choice |= {"finish_reason": shape.finish_reason, "stop_reason": None}
            choice["token_ids"] = None
            document: Json = {**base, "choices": [choice], **so_far(number)}
            if last and not shape.usage:
                document["system_fingerprint"] = FINGERPRINT
            tokens.append(data(document))
    return chunked(heading, tokens, _closing(shape, base, {"created_cache_tokens": 0}))


@lru_cache(maxsize=64)
def completion_stream(shape: Shape) -> Frames:
    base: Json = {
        "id": f"cmpl-{shape.slot}",
        "object": "text_completion",
        "created": CREATED_SLOT,
        "model": shape.model,
    }
    tokens: list[bytes] = []
    for number, text in enumerate(shape.texts, start=1):
        last = number == shape.tokens
        for index in range(shape.choices):
            choice: Json = {
                "index": index,
                "text": text,
                "logprobs": None,
                "finish_reason": shape.finish_reason if last else None,
                "stop_reason": None,
                "prompt_token_ids": None,
                "token_ids": None,
            }
            document: Json = {**base, "choices": [choice]}
            if shape.continuous:
                document["usage"] = _usage(shape.prompt_tokens, number)
            if last and not shape.usage:
                document["system_fingerprint"] = FINGERPRINT
            tokens.append(data(document))
    return chunked([], tokens, _closing(shape, base, {}))


def _closing(shape: Shape, base: Json, more: Json) -> list[bytes]:
    if not shape.usage:
        return [DONE]
    usage = _last_usage(shape, more)
    return [data({**base, "choices": [], "usage": usage, "system_fingerprint": FINGERPRINT}), DONE]
