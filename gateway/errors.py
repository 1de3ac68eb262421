"""Every error a client can see, and whose fault it is.

GatewayError
├── CallerError                the request can not succeed as it is: do not retry
│   ├── BadRequest             400 invalid_request_error
│   ├── Unauthenticated        401 invalid_api_key
│   ├── Forbidden              403 model_not_allowed
│   ├── NotFound               404 model_not_found
│   ├── MethodNotAllowed       405
│   ├── RequestTimeout         408 (it stopped arriving: worth another try)
│   ├── Conflict               409 what is there stands against it
│   ├── BodyTooLarge           413
│   ├── HeadersTooLarge        431
│   └── QuotaExhausted         429 insufficient_quota (waiting does not help)
├── CapacityError              the request is fine, there is no room now: retry later
│   ├── RateLimited            429 rate_limit_exceeded
│   ├── NoTurn                 429 queue_full, queue_wait_too_long: others' turn comes first
│   └── Overloaded             503 overloaded
├── UpstreamError              a worker failed
│   ├── WorkerUnreachable      502 before any answer
│   ├── WorkerFailed           502 its answer is an error of its own
│   ├── AdapterNotLoaded       503 no worker could load it; says nothing of what else they serve
│   ├── WorkerBroke            502 in the middle of an answer
│   └── WorkerTimeout          504
├── WorkerRefused              the worker's own 4xx, its message passed on
└── InternalError              500 ours
"""

from __future__ import annotations

from typing import Literal

import orjson

Blame = Literal["caller", "capacity", "upstream", "ourselves"]


class GatewayError(Exception):
    """An error in OpenAI's shape. `retry_after` is in seconds, `retryable` whether trying again can help, `dropped` the
    workers a router left out (worker, target, reason) where they are why it was raised: for records, never for clients.
    """

    blame: Blame = "ourselves"
    status: int = 500
    type: str = "server_error"
    code: str | None = "internal_error"
    retryable: bool = False
    dropped: tuple[tuple[str, str, str], ...] = ()

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
        self.retry_after = retry_after

    def body(self) -> bytes:
        """The JSON document `{"error": {message, type, param, code}}`."""
        return orjson.dumps({"error": self.fields()})

    def fields(self) -> dict[str, object]:
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


class CallerError(GatewayError):
    blame = "caller"
    type = "invalid_request_error"


class BadRequest(CallerError):
    status = 400
    code = "invalid_request"


class Unauthenticated(CallerError):
    status = 401
    code = "invalid_api_key"


class Forbidden(CallerError):
    status = 403
    code = "model_not_allowed"


class NotFound(CallerError):
    status = 404
    code = "model_not_found"


class MethodNotAllowed(CallerError):
    status = 405
    code = "method_not_allowed"


class RequestTimeout(CallerError):
    status = 408
    code = "request_timeout"
    retryable = True


class Conflict(CallerError):
    status = 409
    code = "conflict"


class BodyTooLarge(CallerError):
    status = 413
    code = "request_too_large"


class HeadersTooLarge(CallerError):
    status = 431
    code = "headers_too_large"


class QuotaExhausted(CallerError):
    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"


class CapacityError(GatewayError):
    blame = "capacity"
    retryable = True


class RateLimited(CapacityError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class NoTurn(CapacityError):
    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class Overloaded(CapacityError):
    status = 503
    type = "overloaded_error"
    code = "overloaded"


class UpstreamError(GatewayError):
    blame = "upstream"
    type = "upstream_error"
    retryable = True


class WorkerUnreachable(UpstreamError):
    status = 502
    code = "worker_unreachable"


class WorkerFailed(UpstreamError):
    status = 502
    code = "worker_failed"


class AdapterNotLoaded(UpstreamError):
    status = 503
    code = "adapter_not_loaded"


class WorkerBroke(UpstreamError):
    status = 502
    code = "worker_broke"


class WorkerTimeout(UpstreamError):
    status = 504
    code = "worker_timeout"


class WorkerRefused(GatewayError):
    """The worker judged the request and said no; its message is the useful one."""

    blame = "caller"
    type = "invalid_request_error"

    def __init__(self, status: int, message: str, *, type: str, param: str | None, code: str | None) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.type = type
        self.code = code


class InternalError(GatewayError):
    pass
