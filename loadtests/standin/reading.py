"""Reading a request's body as vLLM does: the checks in its order, the refusals in its words."""

from __future__ import annotations

from typing import cast

import orjson

from loadtests.standin.behaviour import Behaviour
from loadtests.standin.dialect.shape import Json, Shape, new_id
from loadtests.standin.engine import Engine, Request
from loadtests.standin.errors import FormError, Refusal, bad_parameter, bad_value, malformed


def json(request: Request) -> Json:
    if request.content_type.partition(";")[0].strip().lower() != "application/json":
        raise FormError("1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed")
    try:
        document = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise malformed("json_invalid", f"body.{error.pos}", "JSON decode error", {}) from None
    if not isinstance(document, dict):
        raise malformed("model_attributes_type", "body", "Input should be a valid dictionary", str(document))
    return cast(Json, document)


def ident(request: Request, *, given_ids: bool = True) -> str:
    """A client's own request id becomes the answer's, where it is a plain word."""
    given = request.request_id if given_ids else None
    return given if given and given.replace("-", "").replace("_", "").isalnum() and given.isascii() else new_id()


def behaviour(engine: Engine, request: Request, body: Json) -> Behaviour:
    behaviour = engine.behaviour
    try:
        if request.wish is not None:
            behaviour = behaviour.changed(orjson.loads(request.wish))
        if (wish := body.get("standin")) is not None:
            behaviour = behaviour.changed(wish)
    except ValueError as error:
        raise Refusal(400, f"standin: {error}") from None
    return behaviour


def limit(body: Json, *names: str) -> int | None:
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise malformed("int_type", f"body.{name}", "Input should be a valid integer", value)
        if value < 1:
            raise bad_value(name, value, f"{name} must be at least 1, got {value}.")
        return value
    return None


def check_sampling(body: Json) -> None:
    temperature = body.get("temperature")
    if temperature is None:
        return
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise malformed("float_type", "body.temperature", "Input should be a valid number", temperature)
    if temperature < 0:
        value = float(temperature)
        raise bad_value("temperature", value, f"temperature must be non-negative, got {value}.")


def shape(
    engine: Engine, body: Json, behaviour: Behaviour, prompt_tokens: int, limit: int | None, id_width: int
) -> Shape:
    context = engine.models.context
    if prompt_tokens > context:
        message = (
            f"This model's maximum context length is {context} tokens. However, your prompt contains at least "
            f"{context + 1} input tokens, which exceeds this limit even without any output tokens. Please reduce the "
            "length of the input prompt."
        )
        raise bad_value("input_tokens", context + 1, message)
    if limit is not None and limit > context:
        message = f"max_tokens={limit} cannot be greater than max_model_len={context}."
        raise bad_value("max_tokens", limit, f"{message} Please request fewer output tokens.")
    room = context - prompt_tokens if limit is None else min(limit, context - prompt_tokens)
    if room < 1:
        raise bad_value("input_tokens", prompt_tokens, f"The prompt leaves no room for an answer in {context} tokens.")
    n = body.get("n")
    if n is not None and (not isinstance(n, int) or isinstance(n, bool) or n < 1):
        raise bad_value("n", n, f"n must be at least 1, got {n}.")
    wants_usage = continuous = False
    options = body.get("stream_options")
    if isinstance(options, dict):
        if not body.get("stream"):
            raise bad_parameter("stream_options", "Stream options can only be defined when `stream=True`.")
        asked = cast(Json, options)
        wants_usage = bool(asked.get("include_usage"))
        continuous = wants_usage and bool(asked.get("continuous_usage_stats"))
    wanted = room if body.get("ignore_eos") is True else behaviour.tokens
    return Shape(
        model=engine.models.resolve(body.get("model")),
        tokens=min(wanted, room),
        limited=wanted >= room,
        choices=n or 1,
        each=n or 1,
        prompt_tokens=prompt_tokens,
        cached_tokens=min(behaviour.cached_tokens, prompt_tokens) if engine.prompt_details else None,
        id_width=id_width,
        usage=wants_usage,
        continuous=continuous,
        limit=limit,
    )
