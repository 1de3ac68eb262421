"""Reads the few fields of a request that the gateway acts on; everything else passes to the worker untouched."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from typing import Any, cast

import orjson

from gateway.errors import BadRequest
from gateway.protocol.endpoints import Endpoint

Preferences = dict[str, Any]

MAX_NAME_CHARS = 256
BYTES_PER_TOKEN = 4  # a first guess for text; the ledger has the truth afterwards


@dataclass(slots=True)
class Request:
    """A request the gateway has understood. `fields` is the JSON body, or None for multipart, whose bytes are `raw`."""

    endpoint: Endpoint
    model: str
    stream: bool
    wants_usage: bool  # the client itself asked for the usage event of a stream
    max_output_tokens: int | None
    choices: int  # answers asked for at once (`n`)
    user: str
    routing: Preferences | None
    fields: dict[str, Any] | None
    raw: bytes
    content_type: bytes

    @property
    def estimated_prompt_tokens(self) -> int:
        return len(self.raw) // BYTES_PER_TOKEN + 1


def read_request(endpoint: Endpoint, content_type: bytes | None, body: bytes) -> Request:
    """Raises `BadRequest` naming the parameter when the body is not what the endpoint takes."""
    if endpoint.body == "multipart":
        return _read_multipart(endpoint, content_type or b"", body)
    if not body:
        raise BadRequest("The request has no body: send a JSON object with at least `model`.")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            f"We could not parse the JSON body of your request: {error.msg} at character {error.pos}."
        ) from None
    if not isinstance(fields, dict):
        raise BadRequest("The body must be a JSON object.")
    fields = cast("dict[str, Any]", fields)
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest(
            "You must provide a model parameter: a string such as the ids of GET /v1/models.", param="model"
        )
    _check_name(model)
    stream = fields.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("`stream` must be true or false.", param="stream")
    wants_usage = False
    options = fields.get("stream_options")
    if options is not None:
        if not isinstance(options, dict):
            raise BadRequest("`stream_options` must be an object.", param="stream_options")
        wants_usage = cast("dict[str, Any]", options).get("include_usage") is True
    routing = fields.pop("routing", None)
    if routing is not None and not isinstance(routing, dict):
        raise BadRequest('`routing` must be an object, for example {"optimize": "cost"}.', param="routing")
    user = fields.get("user")
    return Request(
        endpoint=endpoint,
        model=model,
        stream=bool(stream) and endpoint.streams,
        wants_usage=wants_usage,
        max_output_tokens=_max_output(fields),
        choices=_choices(fields.get("n")),
        user=user[:MAX_NAME_CHARS] if isinstance(user, str) else "",
        routing=cast("Preferences | None", routing),
        fields=fields,
        raw=body,
        content_type=b"application/json",
    )


def worker_fields(request: Request) -> dict[str, Any]:
    """A copy of the JSON body with usage always asked for on streams; the dialect then writes the model into it."""
    assert request.fields is not None
    fields = dict(request.fields)
    if request.stream and request.endpoint.usage_on_request and not request.wants_usage:
        options = cast("dict[str, Any]", fields.get("stream_options") or {})
        fields["stream_options"] = {**options, "include_usage": True}
    return fields


def multipart_with_model(request: Request, engine_model: str) -> bytes:
    """The multipart body with the value of its `model` part replaced, every other byte as it came."""
    start, end = _model_span(_boundary(request.content_type), request.raw)
    return request.raw[:start] + engine_model.encode() + request.raw[end:]


def _max_output(fields: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None  # absent or wrong: the worker has the better message


def _choices(n: Any) -> int:
    return n if isinstance(n, int) and 0 < n <= 1024 else 1


def _check_name(model: str) -> None:
    if len(model) > MAX_NAME_CHARS or not model.isprintable():
        raise BadRequest(f"`model` must be at most {MAX_NAME_CHARS} printable characters.", param="model")


def _read_multipart(endpoint: Endpoint, content_type: bytes, body: bytes) -> Request:
    boundary = _boundary(content_type)
    start, end = _model_span(boundary, body)
    try:
        model = body[start:end].decode()
    except UnicodeDecodeError:
        raise BadRequest("`model` must be UTF-8 text.", param="model") from None
    if not model:
        raise BadRequest("You must provide a model parameter.", param="model")
    _check_name(model)
    stream = _part_span(boundary, body, b"stream")
    return Request(
        endpoint=endpoint,
        model=model,
        stream=stream is not None and body[slice(*stream)].strip().lower() == b"true",
        wants_usage=False,
        max_output_tokens=None,
        choices=1,
        user="",
        routing=None,
        fields=None,
        raw=body,
        content_type=content_type,
    )


def _boundary(content_type: bytes) -> bytes:
    message = Message()
    message["content-type"] = content_type.decode("latin-1").replace("\r", " ").replace("\n", " ")
    boundary = message.get_boundary()
    if message.get_content_type() != "multipart/form-data" or not boundary:
        raise BadRequest("This endpoint takes multipart/form-data with a `model` field and a file.")
    return boundary.encode("latin-1", "replace")


def _model_span(boundary: bytes, body: bytes) -> tuple[int, int]:
    span = _part_span(boundary, body, b"model")
    if span is None:
        raise BadRequest("You must provide a model parameter: a form field named `model`.", param="model")
    return span


def _part_span(boundary: bytes, body: bytes, name: bytes) -> tuple[int, int] | None:
    """Where the value of a form field lies (RFC 7578): between its header block and the next delimiter."""
    delimiter = b"--" + boundary
    position = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter)
    while position >= 0:
        headers_end = body.find(b"\r\n\r\n", position)
        next_delimiter = body.find(b"\r\n" + delimiter, position + len(delimiter))
        if headers_end < 0 or next_delimiter < 0 or headers_end > next_delimiter:
            return None
        head = body[position:headers_end].lower()
        if b'name="%b"' % name in head and b"filename=" not in head:
            return headers_end + 4, next_delimiter
        position = next_delimiter
    return None
