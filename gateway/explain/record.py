"""A decision as it is kept, and as it is shown.

Kept is a JSON array: numbers are integers, times nanoseconds, and what the places mean stands once, in the `SCHEMA` of
the ring. Shown is a document with names, seconds and dollars.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, TypedDict

import orjson

from gateway.routing.types import NO_TERMS, Drop

Document = dict[str, Any]
Values = list[Any]

FIRST = b'["%b"'  # how the record of a request begins

RECORD = (
    "request_id",
    "started_ms",  # Unix
    "config",
    "tenant",
    "key",
    "endpoint",
    "stream",
    "status",
    "outcome",
    "error",  # [code, message], or None
    "cache",
    "prompt_tokens",  # as counted; nothing of them is known where `estimated`
    "cached_tokens",
    "output_tokens",
    "estimated",
    "cost_nanousd",
    "ttft_ns",  # from arrival, None without a stream
    "duration_ns",
    "queued_ns",
    "attempts",
    "model_asked",
    "expected_prompt_tokens",
    "most_output_tokens",  # that it asked for
    "expected_output_tokens",
    "preferences",
    "route",
    "reason",
    "candidates",
    "more_candidates",
    "dropped",
    "more_dropped",
)
ATTEMPT = ("number", "worker", "began_ns", "ttft_ns", "duration_ns", "outcome", "status", "cost_nanousd")
_CANDIDATE = ("worker", "target", "seconds", "ttft_seconds", "nanousd", "cached_tokens")
CANDIDATE = (*_CANDIDATE, *NO_TERMS.by_name())
DROPPED = ("worker", "target", "reason")


class Schema(TypedDict):
    """What stands in which place."""

    record: list[str]
    candidate: list[str]
    attempt: list[str]
    dropped: list[str]


SCHEMA = orjson.dumps({"record": RECORD, "candidate": CANDIDATE, "attempt": ATTEMPT, "dropped": DROPPED})

WHY: dict[Drop, str] = {
    "not_allowed": "the tenant may not use it",
    "down": "it is down: health probes fail, or it has not answered one yet",
    "draining": "an operator drains it",
    "silent": "it owes answers and has not been heard of for a while",
    "ejected": "it fails far more often than the others that serve the same",
    "breaker_open": "it failed again and again with this model or adapter",
    "adapter_missing": "it does not hold the adapter, and has no room for any",
    "adapter_failed": "it could not load the adapter a while ago",
    "adapter_elsewhere": "it does not hold the adapter, and others are to",
    "context_length": "the prompt does not fit its context",
    "quality": "below the route's `min_quality`",
    "ttft": "its first token is predicted later than the route or the request allows",
    "price": "above the request's `max_price_usd_per_m`",
    "quantization": "not among the request's `quantizations`",
    "not_in_only": "not among the request's `only`",
    "task": "its model is not for this endpoint",
}


def document(values: Values, schema: Schema) -> Document:
    """What is shown of a record. Names that it has and this version does not know are shown as they are."""
    kept = dict(zip(schema["record"], values, strict=True))
    attempts = [dict(zip(schema["attempt"], one, strict=True)) for one in kept["attempts"]]
    attempts.sort(key=lambda one: one["number"])
    candidates = [_candidate(dict(zip(schema["candidate"], one, strict=True))) for one in kept["candidates"]]
    error = kept["error"]
    shown: Document = {
        "request_id": kept["request_id"],
        "at": datetime.fromtimestamp(kept["started_ms"] / 1000, UTC).isoformat(timespec="milliseconds"),
        "config": kept["config"],
        "request": {
            "tenant": kept["tenant"],
            "key": kept["key"],
            "endpoint": kept["endpoint"],
            "model": kept["model_asked"],
            "stream": kept["stream"],
            "prompt_tokens": kept["expected_prompt_tokens"],
            "max_output_tokens": kept["most_output_tokens"],
            "output_tokens": kept["expected_output_tokens"],
            "preferences": kept["preferences"] or {},
        },
        "route": kept["route"],
        "reason": kept["reason"],
        "candidates": candidates,
        "more_candidates": kept["more_candidates"],
        "dropped": [_dropped(dict(zip(schema["dropped"], one, strict=True))) for one in kept["dropped"]],
        "more_dropped": kept["more_dropped"],
        "error": None if error is None else {"code": error[0], "message": error[1]},
    }
    if kept["outcome"] is None:  # it was only described
        return shown
    shown["attempts"] = [_attempt(one) for one in attempts]
    shown["result"] = {
        "status": kept["status"],
        "outcome": kept["outcome"],
        "cache": kept["cache"],
        "ttft_seconds": _seconds(kept["ttft_ns"]),
        "duration_seconds": _seconds(kept["duration_ns"]),
        "queued_seconds": _seconds(kept["queued_ns"]),
        "prompt_tokens": kept["prompt_tokens"],
        "cached_tokens": kept["cached_tokens"],
        "output_tokens": kept["output_tokens"],
        "estimated": kept["estimated"],
        "cost_usd": kept["cost_nanousd"] / 1e9,
    }
    shown["prediction"] = _prediction(candidates, shown["attempts"])
    return shown


def _prediction(candidates: list[Document], attempts: list[Document]) -> Document | None:
    """The last attempt beside what was predicted of its worker; None where there was none."""
    if not attempts:
        return None
    last = attempts[-1]
    for one in candidates:
        if one["worker"] == last["worker"]:
            break
    else:
        return None
    return {
        "worker": one["worker"],
        "ttft_seconds": _beside(one["ttft_seconds"], last["ttft_seconds"]),
        "duration_seconds": _beside(one["seconds"], last["duration_seconds"]),
        "cost_usd": _beside(one["cost_usd"], last["cost_usd"]),
    }


def _beside(predicted: float, realised: float | None) -> Document:
    ratio = None if realised is None or predicted <= 0 else realised / predicted
    return {"predicted": predicted, "realised": realised, "ratio": ratio}


def _candidate(kept: Document) -> Document:
    terms: dict[str, float] = {name: value / 1e9 for name, value in kept.items() if name not in _CANDIDATE}
    return {
        "worker": kept["worker"],
        "target": kept["target"],
        "ttft_seconds": _seconds(kept["ttft_seconds"]),
        "seconds": _seconds(kept["seconds"]),
        "cost_usd": kept["nanousd"] / 1e9,
        "cached_tokens": kept["cached_tokens"],
        "score_seconds": math.fsum(terms.values()),
        "terms": terms,
    }


def _dropped(kept: Document) -> Document:
    return {**kept, "why": WHY.get(kept["reason"], kept["reason"])}


def _attempt(kept: Document) -> Document:
    return {
        "number": kept["number"],
        "worker": kept["worker"],
        "after_seconds": _seconds(kept["began_ns"]),
        "ttft_seconds": _seconds(kept["ttft_ns"]),
        "duration_seconds": _seconds(kept["duration_ns"]),
        "outcome": kept["outcome"],
        "status": kept["status"],
        "cost_usd": kept["cost_nanousd"] / 1e9,
    }


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9
