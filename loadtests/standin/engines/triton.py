"""Triton's OpenAI frontend: FastAPI's `{detail}`, judgements as 400, failures as 500, streams that just break. Adapters
are models named `MODEL:ADAPTER`, as with `--lora-separator :`."""

from __future__ import annotations

from loadtests.standin.dialect.shape import Json
from loadtests.standin.dialect.speech import Speech
from loadtests.standin.engine import Answer, Engine, Reply, Request
from loadtests.standin.engines.common import OF_VLLM_ALONE, cards, document, page, waiting
from loadtests.standin.errors import Refusal


def _read(engine: Engine, path: str, body: Json) -> Json:
    asked = str(body.get("model"))
    base, _, adapter = asked.partition(":")
    if base not in engine.models.names:
        raise Refusal(400, f"Unknown model: {asked}")
    if adapter and adapter not in engine.models.adapters:
        raise Refusal(400, f"Unknown LoRA: {adapter}; for model: {asked}")
    body["model"] = adapter or base
    return body


def _answer(refusal: Refusal) -> Answer:
    if refusal.status == 503:
        return document({"detail": "[request id: <id_unknown>] Exceeds maximum queue size"}, 500)
    return document({"detail": refusal.message}, 400 if refusal.status < 500 else 500)


def _ready(engine: Engine, request: Request) -> Reply:
    if engine.healthy:
        return Answer(200, b"", None)
    return document({"detail": "Attached inference engine is not ready for inference requests."}, 400)


def _models(engine: Engine, request: Request) -> Reply:
    base = engine.models.names[0]
    return cards([*engine.models.names, *(f"{base}:{name}" for name in engine.models.adapters)], "Triton")


def _metrics(engine: Engine, request: Request) -> Reply:
    """With the TensorRT-LLM backend."""
    of = f'model="{engine.models.names[0]}"'
    kinds = {"context": 0, "scheduled": engine.running, "active": engine.metrics.active, "waiting": waiting(engine)}
    requests = {
        f'nv_trt_llm_request_metrics{{{of},request_type="{kind}",version="1"}}': value for kind, value in kinds.items()
    }
    blocks = {"max": 1000.0, "used": 1000 * engine.metrics.kv_usage, "fraction": engine.metrics.kv_usage}
    cache = {
        f'nv_trt_llm_kv_cache_block_metrics{{kv_cache_block_type="{kind}",{of},version="1"}}': value
        for kind, value in blocks.items()
    }
    return page({f'nv_inference_pending_request_count{{{of},version="1"}}': 0, **requests, **cache})


TRITON = Speech(
    paths={"/health/ready": ("GET", _ready), "/v1/models": ("GET", _models), "/metrics": ("GET", _metrics)},
    lacks=OF_VLLM_ALONE | {"/health", "/v1/responses", "/v1/rerank", "/v2/rerank", "/rerank", "/v1/score", "/tokenize"},
    read=_read,
    answer=_answer,
    event=lambda refusal: None,
)
