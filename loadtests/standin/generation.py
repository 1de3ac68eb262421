"""Chat, completions, responses and messages.

A plan is what a request comes to: its behaviour and the shape of its answer. Load tests send the same bytes over and
over, so plans are remembered by them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from loadtests.standin import reading
from loadtests.standin.behaviour import Behaviour
from loadtests.standin.dialect import anthropic, openai, responses
from loadtests.standin.dialect.shape import Frames, Json, Shape, fill
from loadtests.standin.engine import JSON, Answer, Dialect, Engine, Reply, Request, Stream
from loadtests.standin.errors import Refusal, malformed, missing
from loadtests.standin.tokens import chat_text, count_prompt, flat_text, prompts_in

_REMEMBERED = 1024
_REMEMBERED_BYTES = 16 * 1024


@dataclass(slots=True, frozen=True)
class _Api:
    """One endpoint: how its body is read, and how its answers are written."""

    read: Callable[[Engine, Json, Behaviour, int], Shape]
    whole: Callable[[Shape], bytes]
    streamed: Callable[[Shape], Frames]
    dialect: Dialect = "openai"
    names_its_own_ids: bool = False  # does not take x-request-id


@dataclass(slots=True, frozen=True)
class _Plan:
    api: _Api
    shape: Shape
    behaviour: Behaviour
    streams: bool
    # What it was made from; a change makes it stale.
    default: Behaviour
    edition: int


def generate(engine: Engine, request: Request) -> Reply:
    api = _APIS[request.path]
    ident = reading.ident(request, given_ids=not api.names_its_own_ids)
    try:
        plan = _plan(engine, request, api, len(ident))
        engine.admit(plan.behaviour, plan.shape)
    except Refusal as refusal:
        if api.dialect == "anthropic" and not refusal.is_form_error:
            return Answer(refusal.status, refusal.anthropic_body())
        raise
    shape, behaviour, created = plan.shape, plan.behaviour, int(time.time())
    tokens, finish_reason = shape.tokens * shape.choices, shape.finish_reason
    if plan.streams:
        frames = api.streamed(shape)
        choices, speech = shape.choices, engine.speech
        return Stream(frames, ident, created, choices, tokens, finish_reason, behaviour, api.dialect, speech)
    document = fill(api.whole(shape), ident, created)
    return Answer(200, document, JSON, tokens, finish_reason, behaviour)


def _plan(engine: Engine, request: Request, api: _Api, id_width: int) -> _Plan:
    key = (request.path, request.body, request.wish, request.content_type, id_width)
    known = engine.plans.get(key)
    if isinstance(known, _Plan) and known.default is engine.behaviour and known.edition == engine.models.edition:
        return known
    body = reading.json(request)
    behaviour = reading.behaviour(engine, request, body)
    shape = api.read(engine, body, behaviour, id_width)
    plan = _Plan(api, shape, behaviour, bool(body.get("stream")), engine.behaviour, engine.models.edition)
    if len(request.body) <= _REMEMBERED_BYTES:
        if len(engine.plans) >= _REMEMBERED:
            engine.plans.clear()
        engine.plans[key] = plan
    return plan


def _chat(engine: Engine, body: Json, behaviour: Behaviour, id_width: int) -> Shape:
    messages = body.get("messages")
    if messages is None:
        raise missing("messages", body)
    if not isinstance(messages, list):
        raise malformed("list_type", "body.messages", "Input should be a valid list", messages)
    messages = cast("list[object]", messages)
    reading.check_sampling(body)
    limit = reading.limit(body, "max_completion_tokens", "max_tokens")
    engine.models.resolve(body.get("model"))
    if not messages:
        message = "Cannot apply chat template to an empty conversation. Provide at least one message."
        raise Refusal(400, message, type="BadRequestError")
    return reading.shape(engine, body, behaviour, count_prompt(chat_text(messages)), limit, id_width)


def _completion(engine: Engine, body: Json, behaviour: Behaviour, id_width: int) -> Shape:
    prompt = body.get("prompt")
    if prompt is None:
        raise missing("prompt", body)
    reading.check_sampling(body)
    limit = reading.limit(body, "max_tokens") or 16  # the API's own default
    shape = reading.shape(engine, body, behaviour, count_prompt(prompt), limit, id_width)
    return shape._replace(choices=shape.choices * prompts_in(prompt))


def _response(engine: Engine, body: Json, behaviour: Behaviour, id_width: int) -> Shape:
    given = body.get("input")
    if given is None:
        raise missing("input", body)
    reading.check_sampling(body)
    limit = reading.limit(body, "max_output_tokens")
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
    return reading.shape(engine, body, behaviour, count_prompt(chat_text(messages)), limit, id_width)


def _message(engine: Engine, body: Json, behaviour: Behaviour, id_width: int) -> Shape:
    for name in ("messages", "max_tokens"):
        if body.get(name) is None:
            raise missing(name, body)
    limit = reading.limit(body, "max_tokens")
    prompt = flat_text(body.get("system")) + chat_text(body["messages"])
    return reading.shape(engine, body, behaviour, count_prompt(prompt), limit, id_width)


_APIS = {
    "/v1/chat/completions": _Api(_chat, openai.chat, openai.chat_stream),
    "/v1/completions": _Api(_completion, openai.completion, openai.completion_stream),
    "/v1/responses": _Api(_response, responses.response, responses.response_stream, "responses", True),
    "/v1/messages": _Api(_message, anthropic.message, anthropic.message_stream, "anthropic"),
}
PATHS = tuple(_APIS)
