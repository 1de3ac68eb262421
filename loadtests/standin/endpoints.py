"""Which path leads where: one request in, one reply out, no IO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

import orjson

from loadtests.standin import generation, pooling, reading, service
from loadtests.standin.engine import Answer, Engine, Reply, Request, Task
from loadtests.standin.errors import Refusal


def reply(engine: Engine, request: Request) -> Reply:
    """The engine's answer. Every refusal vLLM knows comes back as an Answer too."""
    speech = engine.speech
    if (own := speech.paths.get(request.path)) is not None:
        method, task, handler = own[0], None, own[1]
    elif request.path in _ROUTES and request.path not in speech.lacks:
        method, task, handler = _ROUTES[request.path]
    else:
        return _plain_error(404)
    if task is not None and engine.task not in ("any", task):
        return _plain_error(404)
    if request.method != method:
        return _plain_error(405)
    try:
        if task is not None and speech.read is not None:
            body = speech.read(engine, request.path, reading.json(request))
            request = replace(request, body=orjson.dumps(body))
        return handler(engine, request)
    except Refusal as refusal:
        return Answer(refusal.status, refusal.body()) if speech.answer is None else speech.answer(refusal)


def _plain_error(status: int) -> Answer:
    """What the web framework says before vLLM is asked: FastAPI's own shape."""
    return Answer(status, orjson.dumps({"detail": HTTPStatus(status).phrase}))


_Handler = Callable[[Engine, Request], Reply]
_ROUTES: dict[str, tuple[str, Task | None, _Handler]] = {
    **{path: ("POST", "generate", generation.generate) for path in generation.PATHS},
    "/v1/messages/count_tokens": ("POST", "generate", service.count_message_tokens),
    "/v1/audio/transcriptions": ("POST", "generate", service.transcription),
    "/v1/audio/translations": ("POST", "generate", service.transcription),
    "/v1/embeddings": ("POST", "embed", pooling.embeddings),
    "/v1/score": ("POST", "embed", pooling.score),
    "/score": ("POST", "embed", pooling.score),
    "/v1/rerank": ("POST", "embed", pooling.rerank),
    "/v2/rerank": ("POST", "embed", pooling.rerank),
    "/rerank": ("POST", "embed", pooling.rerank),
    "/v1/models": ("GET", None, service.models),
    "/v1/load_lora_adapter": ("POST", None, service.load_adapter),
    "/v1/unload_lora_adapter": ("POST", None, service.unload_adapter),
    "/tokenize": ("POST", None, service.tokenize),
    "/detokenize": ("POST", None, service.detokenize),
    "/health": ("GET", None, service.health),
    "/ping": ("GET", None, service.health),
    "/metrics": ("GET", None, service.metrics),
    "/load": ("GET", None, service.load),
    "/version": ("GET", None, service.version),
    "/standin/behaviour": ("PUT", None, service.set_behaviour),
}
