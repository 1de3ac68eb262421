"""Reads the few fields of a request that the gateway acts on; everything else passes to the worker untouched."""

from __future__ import annotations

import re
from typing import Any, Final, cast

import orjson

from gateway.errors import BadRequest
from gateway.protocol import multipart
from gateway.protocol.endpoints import Endpoint
from gateway.protocol.tags import read_tags

Preferences = dict[str, Any]

MAX_NAME_CHARS: Final = 256
WRITABLE_DEPTH: Final = 254  # levels orjson writes; it reads 1,024
BYTES_PER_TOKEN: Final = 4  # a first guess for text; the ledger has the truth afterwards
MOST_CHOICES: Final = 65_535  # which the journal has room for; vLLM refuses more than 16,384, unless told otherwise
MEDIA_BYTES: Final = 4096  # what an image, a recording or a file counts for: as many tokens as models make of an image

_loads: Final = orjson.loads

_WHOLE: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_MEDIA_TYPES: Final = frozenset(
    {
        "audio_url",
        "document",
        "file",
        "image",
        "image_embeds",
        "image_url",
        "input_audio",
        "input_file",
        "input_image",
        "video_url",
    }
)


class Request:
    """A request the gateway has understood. `fields` is the JSON body, or None for multipart, whose bytes are `raw`.

    `content_type` is what to announce the body as to the worker.
    """

    __slots__ = (
        "choices",
        "content_type",
        "endpoint",
        "fields",
        "max_output_tokens",
        "model",
        "model_span",
        "prompt_bytes",
        "raw",
        "routing",
        "stream",
        "tags",
        "user",
        "wants_usage",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        stream: bool,
        wants_usage: bool,  # the client itself asked for the usage event of a stream
        max_output_tokens: int | None,
        choices: int,  # answers asked for at once (`n`), of each prompt where there are several
        user: str,
        tags: str,  # of `metadata`, for the ledger: a JSON object with sorted keys; "" for none
        routing: Preferences | None,
        fields: dict[str, Any] | None,
        raw: bytes,
        content_type: bytes,
        prompt_bytes: int,  # the size of what the model reads as text, and an allowance for each image or recording
        model_span: tuple[int, int] = (0, 0),  # where `model` lies in a multipart body
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.stream = stream
        self.wants_usage = wants_usage
        self.max_output_tokens = max_output_tokens
        self.choices = choices
        self.user = user
        self.tags = tags
        self.routing = routing
        self.fields = fields
        self.raw = raw
        self.content_type = content_type
        self.prompt_bytes = prompt_bytes
        self.model_span = model_span

    @property
    def estimated_prompt_tokens(self) -> int:
        return self.prompt_bytes // BYTES_PER_TOKEN + 1


def read_request(endpoint: Endpoint, content_type: bytes | None, body: bytes) -> Request:
    """Raises `BadRequest` naming the parameter when the body is not what the endpoint takes."""
    if endpoint.body == "multipart":
        return _read_multipart(endpoint, content_type or b"", body)
    if not body:
        raise BadRequest("The request has no body: send a JSON object with at least `model`.")
    try:
        fields = _loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            f"We could not parse the JSON body of your request: {error.msg} at character {error.pos}."
        ) from None
    if not isinstance(fields, dict):
        raise BadRequest("The body must be a JSON object.")
    fields = cast("dict[str, Any]", fields)
    if len(body) > 2 * WRITABLE_DEPTH - 8:
        _check_depth(fields, body)
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
    routing = fields.pop("routing") if "routing" in fields else None
    if routing is not None and not isinstance(routing, dict):
        raise BadRequest('`routing` must be an object, for example {"optimize": "cost"}.', param="routing")
    user, metadata, choices = fields.get("user"), fields.get("metadata"), fields.get("n")
    size = len(body)
    return Request(  # by position: naming its fields would cost as much as reading them
        endpoint,
        model,
        bool(stream) and endpoint.streams,
        wants_usage,
        _max_output(fields),
        1 if choices is None or not endpoint.many else _choices(choices),
        user[:MAX_NAME_CHARS].replace("\0", "") if isinstance(user, str) else "",  # PostgreSQL keeps no NUL
        "" if metadata is None else read_tags(metadata),
        cast("Preferences | None", routing),
        fields,
        body,
        b"application/json",
        size if size <= MEDIA_BYTES else size - _media(fields),
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
    start, end = request.model_span
    return request.raw[:start] + engine_model.encode() + request.raw[end:]


def _read_multipart(endpoint: Endpoint, content_type: bytes, body: bytes) -> Request:
    boundary = multipart.read_boundary(content_type)
    parts = multipart.read_parts(boundary, body)
    model_part, stream_part = _field(parts, b"model"), _field(parts, b"stream")
    if model_part is None:
        raise BadRequest("You must provide a model parameter: a form field named `model`.", param="model")
    try:
        model = body[model_part.start : model_part.end].decode()
    except UnicodeDecodeError:
        raise BadRequest("`model` must be UTF-8 text.", param="model") from None
    if not model:
        raise BadRequest("You must provide a model parameter.", param="model")
    _check_name(model)
    media = sum(max(0, part.end - part.start - MEDIA_BYTES) for part in parts if part.is_file)
    return Request(
        endpoint=endpoint,
        model=model,
        stream=stream_part is not None and body[stream_part.start : stream_part.end].strip().lower() == b"true",
        wants_usage=False,
        max_output_tokens=None,
        choices=1,
        user="",
        tags="",
        routing=None,
        fields=None,
        raw=body,
        content_type=multipart.content_type(boundary),
        prompt_bytes=len(body) - media,
        model_span=(model_part.start, model_part.end),
    )


def _field(parts: list[multipart.Part], name: bytes) -> multipart.Part | None:
    """The one text field of that name: two readers may disagree on which of several counts."""
    named = [part for part in parts if part.name == name]
    if not named:
        return None
    if len(named) > 1 or named[0].is_file:
        raise BadRequest(f"`{name.decode()}` must be given once, as text.", param=name.decode())
    return named[0]


def _max_output(fields: dict[str, Any]) -> int | None:
    return (
        _positive(fields.get("max_completion_tokens"))
        or _positive(fields.get("max_tokens"))
        or _positive(fields.get("max_output_tokens"))
    )


def _positive(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None  # absent or wrong: the worker has the better message


def _choices(n: Any) -> int:
    if (type(n) is float and n.is_integer()) or (type(n) is str and _WHOLE.fullmatch(n)):  # as vLLM takes them too
        n = int(n)
    return n if type(n) is int and 0 < n <= MOST_CHOICES else 1


def _check_depth(fields: dict[str, Any], body: bytes) -> None:
    """What is read here is written again: for the worker, and in the log some levels further down."""
    if body.count(b"{") + body.count(b"[") >= WRITABLE_DEPTH - 4:
        try:
            orjson.dumps([[[[fields]]]])
        except orjson.JSONEncodeError:
            raise BadRequest(f"The body is nested deeper than {WRITABLE_DEPTH - 4} levels.") from None


def _check_name(model: str) -> None:
    if len(model) > MAX_NAME_CHARS or not model.isprintable():
        raise BadRequest(f"`model` must be at most {MAX_NAME_CHARS} printable characters.", param="model")


def _media(fields: dict[str, Any]) -> int:
    """How many bytes of a body are images, recordings and files beyond what each of them counts for."""
    excess = 0
    for name in ("messages", "input"):
        items = fields.get(name)
        if isinstance(items, list) and items and isinstance(items[0], dict):
            for item in cast("list[Any]", items):
                if isinstance(item, dict):
                    excess += _media_in(cast("dict[str, Any]", item).get("content"), 2)
    return excess


def _media_in(content: Any, depth: int) -> int:
    if not isinstance(content, list) or not depth:
        return 0
    excess = 0
    for part in cast("list[Any]", content):
        if isinstance(part, dict):
            part = cast("dict[str, Any]", part)
            kind = part.get("type")
            if isinstance(kind, str) and kind in _MEDIA_TYPES:
                excess += _beyond(part, 2)
            else:
                excess += _media_in(part.get("content"), depth - 1)  # what a tool gave back
    return excess


def _beyond(part: dict[str, Any], depth: int) -> int:
    excess = 0
    for value in part.values():
        if isinstance(value, str):
            excess += max(0, len(value) - MEDIA_BYTES)
        elif isinstance(value, dict) and depth:
            excess += _beyond(cast("dict[str, Any]", value), depth - 1)
    return excess
