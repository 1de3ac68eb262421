"""SGLang: flat errors, an adapter in `lora_path`, a /health that generates a token."""

from __future__ import annotations

import orjson

from loadtests.standin import reading
from loadtests.standin.dialect.shape import Json
from loadtests.standin.dialect.speech import Speech
from loadtests.standin.engine import Answer, Engine, Reply, Request
from loadtests.standin.engines.common import OF_VLLM_ALONE, cards, document, page, waiting
from loadtests.standin.errors import Refusal
from loadtests.standin.metrics import KV_BLOCK_TOKENS


def _read(engine: Engine, path: str, body: Json) -> Json:
    wanted = body.pop("lora_path", None)
    base, colon, adapter = str(body.get("model", "")).partition(":")
    if colon and base in engine.models.names:
        wanted = adapter
    if wanted is None:
        body["model"] = engine.models.names[0]  # it serves one model and takes any name for it
    elif wanted in engine.models.adapters:
        body["model"] = wanted
    else:
        raise Refusal(400, f"Got LoRA adapter that has never been loaded: {wanted}", type="BadRequestError")
    return body


def _fields(refusal: Refusal) -> Json:
    return {"object": "error", **refusal.fields()}


def _answer(refusal: Refusal) -> Answer:
    return document(_fields(refusal), refusal.status)


def _event(refusal: Refusal) -> bytes:
    return b"data: " + orjson.dumps({"error": _fields(refusal)}) + b"\n\n"


def _health(engine: Engine, request: Request) -> Reply:
    engine.metrics.generation_tokens += 1
    return Answer(200 if engine.healthy else 503, b"", None)


def _models(engine: Engine, request: Request) -> Reply:
    return cards(list(engine.models.names), "sglang") if not engine.models.adapters else _with_adapters(engine)


def _with_adapters(engine: Engine) -> Reply:
    names = engine.models.names
    adapters = [{"id": name, "object": "model", "parent": names[0]} for name in engine.models.adapters]
    return document({"object": "list", "data": [*({"id": name, "object": "model"} for name in names), *adapters]})


def _metrics(engine: Engine, request: Request) -> Reply:
    labels = f'{{engine_type="unified",model_name="{engine.models.names[0]}",pp_rank="0",tp_rank="0"}}'
    metrics = engine.metrics
    return page(
        {
            f"sglang:num_running_reqs{labels}": engine.running,
            f"sglang:num_queue_reqs{labels}": waiting(engine),
            f"sglang:token_usage{labels}": metrics.kv_usage,
            f"sglang:prompt_tokens_total{labels}": metrics.prompt_tokens,
            f"sglang:generation_tokens_total{labels}": metrics.generation_tokens,
            f"sglang:max_total_num_tokens{labels}": metrics.kv_blocks * KV_BLOCK_TOKENS,
        }
    )


def _placed(engine: Engine, error: str = "") -> Reply:
    result = {"success": not error, "error_message": error, "loaded_adapters": dict(engine.models.adapters)}
    return document(result, 400 if error else 200)


def _load(engine: Engine, request: Request) -> Reply:
    body = reading.json(request)
    name, path = str(body.get("lora_name")), str(body.get("lora_path"))
    if name in engine.models.adapters:
        return _placed(engine, f"LoRA adapter {name} is already loaded.")
    try:
        engine.models.load(name, path, in_place=False)
    except Refusal:
        return _placed(engine, f"Failed to load LoRA adapter {name}: {path} does not exist")
    return _placed(engine)


def _unload(engine: Engine, request: Request) -> Reply:
    name = str(reading.json(request).get("lora_name"))
    if name not in engine.models.adapters:
        return _placed(engine, f"LoRA adapter {name} is not loaded.")
    engine.models.unload(name)
    return _placed(engine)


SGLANG = Speech(
    paths={
        "/health": ("GET", _health),
        "/metrics": ("GET", _metrics),
        "/v1/models": ("GET", _models),
        "/load_lora_adapter": ("POST", _load),
        "/unload_lora_adapter": ("POST", _unload),
    },
    lacks=OF_VLLM_ALONE,
    read=_read,
    answer=_answer,
    event=_event,
)
