"""Text Generation Inference: `{error, error_type}`, overload as 429, its base model under the name `tgi`."""

from __future__ import annotations

import orjson

from loadtests.standin.dialect.shape import Json
from loadtests.standin.dialect.speech import Speech
from loadtests.standin.engine import Answer, Engine, Reply, Request
from loadtests.standin.engines.common import OF_VLLM_ALONE, cards, document, page, waiting
from loadtests.standin.errors import Refusal

_KINDS = {503: (429, "overloaded"), 400: (422, "validation"), 404: (422, "validation"), 500: (424, "generation")}


def _read(engine: Engine, path: str, body: Json) -> Json:
    name = body.get("model")
    body["model"] = engine.models.names[0] if name in (None, "", "tgi") else name  # else an adapter's
    return body


def _said(refusal: Refusal) -> tuple[int, Json]:
    status, kind = _KINDS.get(refusal.status, (refusal.status, "generation"))
    message = "Model is overloaded" if kind == "overloaded" else refusal.message
    return status, {"error": message, "error_type": kind}


def _answer(refusal: Refusal) -> Answer:
    status, fields = _said(refusal)
    return document(fields, status)


def _event(refusal: Refusal) -> bytes:
    return b"data: " + orjson.dumps(_said(refusal)[1]) + b"\n\n"


def _metrics(engine: Engine, request: Request) -> Reply:
    return page({"tgi_queue_size": waiting(engine), "tgi_batch_current_size": engine.running})


def _models(engine: Engine, request: Request) -> Reply:
    return cards([engine.models.names[0]], "tgi")


TGI = Speech(
    paths={"/metrics": ("GET", _metrics), "/v1/models": ("GET", _models)},
    lacks=OF_VLLM_ALONE | {"/v1/embeddings", "/v1/responses", "/v1/rerank", "/v2/rerank", "/rerank", "/v1/score"},
    read=_read,
    answer=_answer,
    event=_event,
)
