"""Triton Inference Server's OpenAI-compatible frontend: FastAPI's `{detail}`, each judgement of a request as 400, each
failure as 500; adapters are models of their own, named `MODEL:ADAPTER` when it was started with `--lora-separator :`.

Built to the frontend's published source and tested against a stand-in of it; not run against Triton.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.engines.complaint import Complaint, read_body, read_frame
from gateway.engines.judgement import failed, frame_status, judge, lacks_model, overloaded
from gateway.engines.load import Load, Page
from gateway.errors import GatewayError

# The frontend passes on the server's own page, with what the backend adds: TensorRT-LLM's, or else vLLM's. Their token
# counters are not known to agree with the usage of its answers, so the ledger is not held against them.
_PAGE = Page(
    running=('nv_trt_llm_request_metrics{request_type="scheduled"}', "vllm:num_requests_running"),
    waiting=(
        'nv_trt_llm_request_metrics{request_type="waiting"}',
        "vllm:num_requests_waiting",
        "nv_inference_pending_request_count",
    ),
    kv_usage=('nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"}', "vllm:kv_cache_usage_perc"),
)
_FULL = ("exceeds maximum queue size", "maximum queue size exceeded")


class Triton:
    health_path = "/health/ready"  # 200, or 400 while it is not
    load_path = "/metrics"
    salted_endpoints: frozenset[str] = frozenset()

    def select(self, body: dict[str, Any], engine_model: str, adapter: str | None) -> None:
        body["model"] = engine_model

    def load(self, page: bytes) -> Load:
        return _PAGE.read(page)

    def error(self, status: int, body: bytes) -> GatewayError:
        return _judge(status, read_body(body))

    def frame_error(self, frame: Mapping[str, Any]) -> GatewayError | None:
        complaint = read_frame(frame)
        return None if complaint is None else _judge(frame_status(complaint), complaint)


def _judge(status: int, complaint: Complaint) -> GatewayError:
    message = complaint.message
    if status >= 500 and any(words in message.lower() for words in _FULL):
        return overloaded(complaint)
    if status == 400 and message.startswith(("Unknown model", "Unknown LoRA")):
        return lacks_model(complaint)
    if status == 400 and "not ready" in message:
        return failed(complaint, "The worker is not ready.")
    return judge(status, complaint)
