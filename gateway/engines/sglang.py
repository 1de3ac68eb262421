"""SGLang: flat errors, error events inside 200 streams, adapters by `lora_path`.

Built to SGLang's published contract and tested against a stand-in of it; not run against the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson

from gateway.engines.complaint import read_body, read_frame, tidy
from gateway.engines.dialect import Order
from gateway.engines.judgement import frame_status, judge
from gateway.engines.load import Load, Page
from gateway.errors import GatewayError

# It has the page only when started with --enable-metrics.
_PAGE = Page(
    running="sglang:num_running_reqs",
    waiting="sglang:num_queue_reqs",
    kv_usage="sglang:token_usage",
    prompt_tokens="sglang:prompt_tokens_total",
    output_tokens="sglang:generation_tokens_total",
    cache_tokens="sglang:max_total_num_tokens",
)


class Sglang:
    # /health may generate a token and take a second; the model list costs nothing
    health_path = "/v1/models"
    load_path = "/metrics"
    salted_endpoints = frozenset({"chat.completions", "completions", "responses"})

    def select(self, body: dict[str, Any], engine_model: str, adapter: str | None) -> None:
        # whatever the caller put there would reach past the tenant's own adapters
        body.pop("lora_path", None)
        if adapter is None:
            body["model"] = engine_model
            return
        # SGLang reads "base:adapter" in `model` and prefers it to `lora_path`, so a name with a colon goes only there
        body["model"] = engine_model.partition(":")[0]
        body["lora_path"] = engine_model

    def load_adapter(self, name: str, path: str) -> Order:
        return Order("/load_lora_adapter", {"lora_name": name, "lora_path": path})

    def unload_adapter(self, name: str) -> Order:
        return Order("/unload_lora_adapter", {"lora_name": name})

    def load_refusal(self, status: int, body: bytes) -> str | None:
        return _refusal(status, body, done="already loaded")

    def unload_refusal(self, status: int, body: bytes) -> str | None:
        return _refusal(status, body, done="not loaded")

    def load(self, page: bytes) -> Load:
        return _PAGE.read(page)

    def error(self, status: int, body: bytes) -> GatewayError:
        return judge(status, read_body(body))

    def frame_error(self, frame: Mapping[str, Any]) -> GatewayError | None:
        complaint = read_frame(frame)
        return None if complaint is None else judge(frame_status(complaint), complaint)


def _refusal(status: int, body: bytes, *, done: str) -> str | None:
    """The answer to an order is `{success, error_message, loaded_adapters}`, with 200 or 400."""
    try:
        answer: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    result = cast("Mapping[str, object]", answer) if isinstance(answer, Mapping) else dict[str, object]()
    said = result.get("error_message")
    message = tidy(said) if isinstance(said, str) else read_body(body).message
    if (status == 200 and result.get("success") is True) or done in message:
        return None
    return message or f"it answered HTTP {status}"
