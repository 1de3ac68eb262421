"""The OpenAPI description: FastAPI's own of the control plane, and the data plane's paths beside it.

The data plane reads only the fields named here and passes all others to the worker, so its bodies are described by
those fields and left open.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.protocol.endpoints import ENDPOINTS, Endpoint
from gateway.table import PRIORITIES

DESCRIPTION = """\
A self-hosted, OpenAI-compatible inference gateway. Point an OpenAI SDK's `base_url` at it and keep the rest.

Keys go into `Authorization: Bearer` or `x-api-key`. Errors are always
`{"error": {"message", "type", "param", "code"}}`, inside streams too. Every answer has `x-request-id`; answers of
workers also have `x-tollgate-model`, `-worker`, `-route`, `-attempts` and `-cache`.
"""

_SUMMARIES = {
    "chat.completions": "Create a chat completion",
    "completions": "Create a completion",
    "responses": "Create a response",
    "messages": "Create a message (Anthropic's API)",
    "embeddings": "Create embeddings",
    "rerank": "Rank documents by a query",
    "score": "Score pairs of texts",
    "audio.transcriptions": "Transcribe audio",
    "audio.translations": "Translate audio",
    "tokenize": "Text to token ids",
    "detokenize": "Token ids to text",
}
_INPUTS: dict[str, dict[str, Any]] = {
    "chat.completions": {"messages": [{"role": "user", "content": "Hello"}]},
    "completions": {"prompt": "Once upon a time", "max_tokens": 32},
    "responses": {"input": "Hello"},
    "messages": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32},
    "embeddings": {"input": "Hello"},
    "rerank": {"query": "capital of France", "documents": ["Paris", "Berlin"]},
    "score": {"text_1": "Paris", "text_2": ["France", "Spain"]},
    "tokenize": {"prompt": "Hello"},
    "detokenize": {"tokens": [1, 2, 3]},
}
_ROUTING: dict[str, Any] = {
    "type": "object",
    "description": "The request's own wishes. Acted on by the gateway and never sent to a worker.",
    "properties": {
        "optimize": {"enum": ["cost", "latency", "quality"]},
        "only": {"type": "array", "items": {"type": "string"}, "description": "Workers, models or model@version"},
        "quantizations": {"type": "array", "items": {"type": "string"}},
        "max_price_usd_per_m": {"type": "number"},
        "max_ttft_ms": {"type": "number"},
        "priority": {"enum": list(PRIORITIES), "description": "A class below the sender's own, when workers are busy"},
    },
}
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REFUSALS = {
    "400": "The request is malformed, or the engine refused a parameter",
    "401": "No key, or an unknown one",
    "403": "The tenant may not use this model",
    "404": "No such model",
    "413": "The body is too large",
    "429": "A limit is reached or all workers are full (`retry-after` says when to come back), or a budget is used up",
    "502": "No worker could answer",
    "503": "No room now; `retry-after` says when to come back",
    "504": "A worker took too long",
}
_TAGS = [
    {"name": "Inference", "description": "Relayed to a worker."},
    {"name": "Models", "description": "What may be asked for."},
    {"name": "Health", "description": "For load balancers and Kubernetes."},
    {"name": "Operations", "description": "For Prometheus."},
    {"name": "Admin", "description": "For operators; with an admin key."},
]


def install(app: FastAPI) -> None:
    """Makes `app.openapi()` describe both planes. The document is made once."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    app.openapi = describe


def _describe(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=_TAGS)
    own, models = document["paths"], _models(document)
    for path, operations in own.items():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # answered as 400
            if path.startswith(("/v1/", "/admin/")):
                operation["security"] = [{"bearer": []}, {"x-api-key": []}]
                operation["responses"]["default"] = _error("An error in OpenAI's shape")
            for content in operation.get("requestBody", {}).get("content", {}).values():
                _inline(content, models)
    document["paths"] = {endpoint.path: {"post": _operation(endpoint)} for endpoint in ENDPOINTS.values()} | own
    document["components"] = {
        "schemas": {**models, "Error": _ERROR, "Routing": _ROUTING},
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        },
    }
    return document


def _models(document: dict[str, Any]) -> dict[str, Any]:
    """Of the bodies that the control plane takes."""
    found: dict[str, Any] = document.get("components", {}).get("schemas", {})
    return {name: schema for name, schema in found.items() if not name.endswith("ValidationError")}


def _inline(content: dict[str, Any], models: dict[str, Any]) -> None:
    """A body's fields in the place of the reference to them, as the data plane's have them, and an example."""
    schema = content["schema"]
    reference = schema.get("anyOf", [schema])[0]["$ref"]
    content["schema"] = fields = models[reference.rpartition("/")[2]]
    examples = {name: field.get("examples") for name, field in fields["properties"].items()}
    content["example"] = {name: found[0] for name, found in examples.items() if found}


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    answer: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if endpoint.streams:
        answer["text/event-stream"] = {"schema": {"type": "string", "description": "With `stream: true`"}}
    return {
        "tags": ["Inference"],
        "summary": _SUMMARIES[endpoint.name],
        "operationId": endpoint.name,
        "security": [{"bearer": []}, {"x-api-key": []}],
        "requestBody": {"required": True, "content": _body(endpoint)},
        "responses": {
            "200": {"description": "The worker's answer", "content": answer},
            **{status: _error(meaning) for status, meaning in _REFUSALS.items()},
        },
    }


def _body(endpoint: Endpoint) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": {"type": "string", "description": "An id of `GET /v1/models`"}}
    if endpoint.streams:
        fields["stream"] = {"type": "boolean", "default": False}
    if endpoint.body == "multipart":
        fields["file"] = {"type": "string", "format": "binary"}
        schema = {"type": "object", "required": ["model", "file"], "properties": fields}
        return {"multipart/form-data": {"schema": schema}}
    fields["routing"] = {"$ref": "#/components/schemas/Routing"}
    schema = {"type": "object", "required": ["model"], "properties": fields, "additionalProperties": True}
    return {"application/json": {"schema": schema, "example": {"model": "MODEL", **_INPUTS[endpoint.name]}}}


def _error(meaning: str) -> dict[str, Any]:
    return {
        "description": meaning,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
