"""Reading answers: the parts that several dialogues look at."""

from __future__ import annotations

from typing import Any

import httpx2
import orjson

# Every header an answer of the gateway may have; anything else would be the worker's.
OURS = frozenset(
    {
        "cache-control",
        "connection",
        "content-length",
        "content-type",
        "date",
        "retry-after",
        "retry-after-ms",
        "transfer-encoding",
        "x-accel-buffering",
        "x-ratelimit-limit-requests",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-requests",
        "x-ratelimit-reset-tokens",
        "x-request-id",
        "x-should-retry",
        "x-tollgate-attempts",
        "x-tollgate-cache",
        "x-tollgate-cost-usd",
        "x-tollgate-model",
        "x-tollgate-route",
        "x-tollgate-worker",
    }
)


def request_id(answer: httpx2.Response) -> str:
    return answer.headers["x-request-id"]


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    """The error of an answer that is one, with its shape checked."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    return checked(answer.json()["error"])


def checked(error: dict[str, Any]) -> dict[str, Any]:
    assert list(error) == ["message", "type", "param", "code"]
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    return error


def events(body: bytes) -> list[tuple[str, bytes]]:
    """The events of a stream as (type, data)."""
    found = []
    for block in body.split(b"\n\n"):
        kind, data = "", None
        for line in block.split(b"\n"):
            name, _, value = line.partition(b": ")
            if name == b"event":
                kind = value.decode()
            elif name == b"data":
                data = value
        if data is not None:
            found.append((kind, data))
    return found


def chunks(body: bytes) -> list[dict[str, Any]]:
    """The JSON events of a stream that ends with [DONE]."""
    *rest, last = [data for _, data in events(body)]
    assert last == b"[DONE]"
    return [orjson.loads(data) for data in rest]


def said(body: bytes) -> str:
    """The text of a chat stream."""
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks(body) if chunk["choices"])
