"""What a connection refuses by itself, before or instead of a request. Made anew each time: an exception that is raised
again and again keeps every traceback it had."""

from __future__ import annotations

from gateway.downstream.ids import new_request_id
from gateway.errors import BadRequest, BodyTooLarge, HeadersTooLarge, Overloaded, RequestTimeout


def invalid(why: str = "") -> BadRequest:
    return BadRequest(f"The request is not valid HTTP{why and ': '}{why}.", code="invalid_http")


def large_head(limit: int) -> HeadersTooLarge:
    return HeadersTooLarge(f"The request's headers are larger than {limit // 1024} KB.")


def large_body(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit // (1024 * 1024)} MB, the most this server takes.")


def slow() -> RequestTimeout:
    return RequestTimeout("The request took too long to arrive.")


def no_room() -> Overloaded:
    return Overloaded("The gateway is receiving as much as it can hold.", retry_after=1.0)


def no_place() -> bytes:
    """The whole answer for a client above the limit of connections, whatever it asks."""
    body = Overloaded("The gateway has as many connections as it can serve.").body()
    lines = [
        b"HTTP/1.1 503 Service Unavailable",
        b"x-request-id: " + new_request_id().encode(),
        b"retry-after: 1",
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
