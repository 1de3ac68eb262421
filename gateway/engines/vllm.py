"""vLLM 0.32: adapters are models of their own, every error is `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.engines.complaint import Complaint, read_body, read_frame
from gateway.engines.dialect import Order
from gateway.engines.judgement import failed, frame_status, judge, lacks_model
from gateway.engines.load import Load, Page
from gateway.errors import GatewayError

_PAGE = Page(
    running="vllm:num_requests_running",
    waiting="vllm:num_requests_waiting",
    kv_usage="vllm:kv_cache_usage_perc",
    prompt_tokens="vllm:prompt_tokens_total",
    output_tokens="vllm:generation_tokens_total",
    cache_info="vllm:cache_config_info",
)


class Vllm:
    """`select` needs no adapter name: to vLLM an adapter's name is a model name."""

    health_path = "/health"  # 503 only when the engine process is dead; no inference
    load_path = "/metrics"
    salted_endpoints = frozenset(
        {"chat.completions", "completions", "responses", "messages", "embeddings", "rerank", "score"}
    )

    def select(self, body: dict[str, Any], engine_model: str, adapter: str | None) -> None:
        body["model"] = engine_model

    def load_adapter(self, name: str, path: str) -> Order:
        return Order("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})

    def unload_adapter(self, name: str) -> Order:
        return Order("/v1/unload_lora_adapter", {"lora_name": name})

    def load_refusal(self, status: int, body: bytes) -> str | None:
        if status == 404 and not read_body(body).message.startswith("Loading lora"):
            return "it takes no adapters while it runs: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
        complaint = read_body(body)
        if status == 200 or (status == 400 and "has already been loaded" in complaint.message):
            return None
        return complaint.message or f"it answered HTTP {status}"

    def unload_refusal(self, status: int, body: bytes) -> str | None:
        complaint = read_body(body)
        if status == 200 or (status == 404 and "cannot be found" in complaint.message):
            return None
        return complaint.message or f"it answered HTTP {status}"

    def load(self, page: bytes) -> Load:
        return _PAGE.read(page)

    def error(self, status: int, body: bytes) -> GatewayError:
        return _judge(status, read_body(body))

    def frame_error(self, frame: Mapping[str, Any]) -> GatewayError | None:
        complaint = read_frame(frame)
        return None if complaint is None else _judge(frame_status(complaint), complaint)


def _judge(status: int, complaint: Complaint) -> GatewayError:
    # vLLM's RetryableRequestError (a lost KV transfer, say) is a 503 too, but no sign of a full queue.
    if status == 503 and complaint.type == "ServiceUnavailableError":
        return failed(complaint, "The worker failed to answer (HTTP 503).")
    # The engine found the adapter's files and could not load them: nothing the caller wrote is wrong.
    if status == 400 and complaint.message.startswith("LoRA adapter ") and "could not be loaded" in complaint.message:
        return lacks_model(complaint)
    return judge(status, complaint)
