"""Whose fault an engine's error is: the decisions that all dialects share.

The caller is blamed only for what the engine judged in the request itself. What the gateway got wrong (credentials, a
model the worker does not have) and what the worker got wrong are upstream errors, which another worker may not make.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from gateway.engines.complaint import Complaint
from gateway.errors import (
    AdapterNotLoaded,
    GatewayError,
    Overloaded,
    UpstreamError,
    WorkerFailed,
    WorkerRefused,
    WorkerTimeout,
)

BROKEN_SECONDS = 5.0  # until an adapter that could not be loaded is worth another try
BUSY_SECONDS = 1.0  # engines send no Retry-After; their queues move within about a second

E = TypeVar("E", bound=GatewayError)

_REFUSABLE = frozenset({400, 409, 410, 411, 413, 415, 416, 422, 431})
_TOO_BUSY = frozenset({429, 503, 529})
_TIMED_OUT = frozenset({408, 504})
_BY_TYPE: Mapping[str, int] = {
    "BadRequestError": 400,
    "Bad Request": 400,
    "invalid_request_error": 400,
    "NotFoundError": 404,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "overloaded_error": 503,
    "Service Unavailable": 503,
}


def judge(status: int, complaint: Complaint) -> GatewayError:
    """The error for an engine's status and complaint when its dialect has no rule of its own."""
    if status in _TOO_BUSY:
        return overloaded(complaint)
    if status in _TIMED_OUT:
        return _with_note(WorkerTimeout("The worker gave up on the request: it took too long."), complaint)
    if status in (401, 403, 407):
        return failed(complaint, "The worker does not accept the gateway's own credentials.", "worker_unauthorized")
    if status == 404:
        return _not_found(complaint)
    if status in (405, 501):
        return unsupported(complaint)
    if status in _REFUSABLE:
        # 422 is how some frameworks say 400; OpenAI's clients expect BadRequestError for a bad parameter
        return refused(400 if status == 422 else status, complaint)
    return failed(complaint, f"The worker failed to answer (HTTP {status}).")


def refused(
    status: int, complaint: Complaint, *, type: str = "invalid_request_error", code: str | None = None
) -> WorkerRefused:
    """The engine's own judgement of the request, in its own words."""
    message = complaint.message or f"The engine refused the request without saying why (HTTP {status})."
    if complaint.is_context_length:
        return WorkerRefused(400, message, type="invalid_request_error", param=None, code="context_length_exceeded")
    return WorkerRefused(status, message, type=type, param=complaint.param, code=code)


def overloaded(complaint: Complaint) -> GatewayError:
    return _with_note(Overloaded("The engine is busy. Try again shortly.", retry_after=BUSY_SECONDS), complaint)


def failed(complaint: Complaint, message: str, code: str = "worker_failed") -> UpstreamError:
    """The engine's words about its own failure are for the operator: they become the error's notes, not its message."""
    return _with_note(WorkerFailed(message, code=code), complaint)


def frame_status(complaint: Complaint, by_type: Mapping[str, int] = _BY_TYPE) -> int:
    """The HTTP status that an error inside a 200 stream stands for: its code, else what its type means, else 500."""
    if isinstance(complaint.code, int) and 400 <= complaint.code <= 599:
        return complaint.code
    return by_type.get(complaint.type, 500)


def lacks_model(complaint: Complaint) -> UpstreamError:
    """The gateway chose a worker that does not have the model; another may."""
    return failed(complaint, "The worker does not have the model it was chosen for.", "worker_lacks_model")


def adapter_not_loaded(complaint: Complaint) -> GatewayError:
    """An engine that loads adapters itself could not load the request's; another worker may."""
    error = AdapterNotLoaded("The worker could not load the adapter.", retry_after=BROKEN_SECONDS)
    return _with_note(error, complaint)


def unsupported(complaint: Complaint) -> WorkerRefused:
    """The engine lives and has the model, but does not offer this endpoint for it."""
    message = "The model does not support this endpoint."
    if complaint.message and complaint.message not in ("Not Found", "Method Not Allowed"):
        message = complaint.message
    return WorkerRefused(404, message, type="invalid_request_error", param=None, code="unsupported_endpoint")


def _not_found(complaint: Complaint) -> GatewayError:
    message = complaint.message.lower()
    if (
        complaint.param == "model"
        or complaint.code == "model_not_found"
        or any(word in message for word in ("model", "lora", "adapter"))
    ):
        return lacks_model(complaint)
    if message not in ("", "not found"):
        return refused(404, complaint)
    if not complaint.spoken:  # a proxy between, not the engine
        return failed(complaint, "The worker failed to answer (HTTP 404).")
    return unsupported(complaint)


def _with_note(error: E, complaint: Complaint) -> E:
    if complaint.message:
        error.add_note(complaint.message)
    return error
