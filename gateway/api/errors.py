"""Every failure of the control plane in OpenAI's shape."""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.asgi import request_id
from gateway.errors import BadRequest, GatewayError, InternalError, MethodNotAllowed, NotFound
from gateway.protocol.endpoints import ENDPOINTS


def install(app: FastAPI) -> None:
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(UnicodeEncodeError, _no_unicode)
    app.add_exception_handler(Exception, _unforeseen)


def answer(error: GatewayError, headers: dict[str, str] | None = None) -> Response:
    """The HTTP answer for an error."""
    headers = dict(headers or {})
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after + 0.499)))
    if not error.retryable:
        headers["x-should-retry"] = "false"
    return Response(error.body(), error.status, headers, "application/json")


def _gateway_error(_: Request, error: Exception) -> Response:
    return answer(cast("GatewayError", error))


def _http_exception(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: unknown paths and methods, in the words OpenAI uses."""
    raised = cast("HTTPException", error)
    method, path = request.method, request.url.path[:512]
    if path in ENDPOINTS and raised.status_code == 404:  # a path of the data plane, which takes it with POST only
        raised = HTTPException(405, headers={"allow": "POST, OPTIONS"})
    headers = dict(raised.headers or {})
    if raised.status_code == 404:
        return answer(
            NotFound(
                f"Unknown request URL: {method} {path}. Please check the URL for typos, or see the docs at /docs.",
                code="unknown_url",
            ),
            headers,
        )
    if raised.status_code == 405:
        hint = "(HINT: Perhaps you meant to use a different HTTP method?)"
        return answer(
            MethodNotAllowed(f"Not allowed to {method} on {path}. {hint}", code="method_not_supported"), headers
        )
    refused = BadRequest(str(raised.detail)) if raised.status_code < 500 else InternalError(str(raised.detail))
    refused.status = raised.status_code
    return answer(refused, headers)


def _validation_error(_: Request, error: Exception) -> Response:
    """A parameter of the wrong kind. OpenAI answers 400, where FastAPI would say 422."""
    found = cast("RequestValidationError", error).errors()
    first: Any = found[0] if found else {"msg": "The request is malformed.", "loc": ()}
    if first.get("type") == "json_invalid":
        return answer(BadRequest(f"The body is not JSON: {first['ctx']['error']}."))
    if first.get("type") == "model_attributes_type":
        return answer(BadRequest("The body must be a JSON object, sent with `content-type: application/json`."))
    where = first["loc"][1:] if first["loc"][:1] in (("query",), ("path",), ("body",), ("header",)) else first["loc"]
    place = [str(part) for part in where]
    param = ".".join(place) or None
    return answer(BadRequest(f"{param}: {first['msg']}." if param else f"{first['msg']}.", param=param))


def _no_unicode(_: Request, __: Exception) -> Response:
    """JSON can escape half of a surrogate pair, which no text can hold."""
    return answer(BadRequest("The body holds text that is not Unicode: half of a surrogate pair, as `\\ud800` is."))


def _unforeseen(request: Request, _: Exception) -> Response:
    """A fault of ours. Starlette raises it again behind this answer, so the log has its traceback."""
    name = request_id(request.scope)
    return answer(InternalError(f"The gateway failed on this request ({name})."), {"x-request-id": name})
