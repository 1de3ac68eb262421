"""TensorRT-LLM's trtllm-serve: flat errors, an adapter with its path in every request, figures for one reader only."""

from __future__ import annotations

from typing import cast

from loadtests.standin.dialect.shape import Json
from loadtests.standin.dialect.speech import Speech
from loadtests.standin.engine import Answer, Engine, Reply, Request
from loadtests.standin.engines.common import OF_VLLM_ALONE, document, page, waiting
from loadtests.standin.errors import Refusal

_SALTED = "/v1/chat/completions"  # the only one that knows the field, the others refuse what they do not know


def _read(engine: Engine, path: str, body: Json) -> Json:
    if "cache_salt" in body and path != _SALTED:
        raise Refusal(400, "[{'type': 'extra_forbidden', 'loc': ('body', 'cache_salt')}]", type="form")
    wanted = body.pop("lora_request", None)
    body["model"] = engine.models.names[0]  # a label only
    if wanted is not None:
        named = cast(Json, wanted)
        name, path = str(named["lora_name"]), str(named["lora_path"])
        if not isinstance(named["lora_int_id"], int):
            raise Refusal(400, "lora_int_id must be an integer", type="form")
        if engine.models.adapters.get(name) != path:
            engine.models.load(name, path, in_place=True)
        body["model"] = name
    return body


def _answer(refusal: Refusal) -> Answer:
    if refusal.type == "form":
        return document({"error": refusal.message}, refusal.status)
    flat = {"object": "error", "message": refusal.message, "type": refusal.type, "param": None, "code": refusal.status}
    return document(flat, refusal.status)


def _prometheus(engine: Engine, request: Request) -> Reply:
    labels = f'{{engine_type="pytorch",model_name="{engine.models.names[0]}"}}'
    return page(
        {
            f"trtllm_num_requests_running{labels}": engine.running,
            f"trtllm_num_requests_waiting{labels}": waiting(engine),
            f"trtllm_kv_cache_utilization{labels}": engine.metrics.kv_usage,
        }
    )


def _drain(engine: Engine, request: Request) -> Reply:
    """Whoever asks takes the figures away from whoever asks next."""
    figures, engine.undrained = engine.undrained, False
    return document([{"numActiveRequests": engine.metrics.active}] if figures else [])


TRTLLM = Speech(
    paths={"/metrics": ("GET", _drain), "/prometheus/metrics": ("GET", _prometheus)},
    lacks=OF_VLLM_ALONE,
    read=_read,
    answer=_answer,
    event=lambda refusal: None,
)
