"""TensorRT-LLM's trtllm-serve: flat errors, adapters named by their path in every request.

Built to trtllm-serve's published contract and tested against a stand-in of it; not run against the engine.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

from gateway.engines.complaint import Complaint, read_body, read_frame
from gateway.engines.judgement import adapter_not_loaded, frame_status, judge
from gateway.engines.load import Load, Page
from gateway.errors import GatewayError
from gateway.table import Adapter

_PAGE = Page(  # no counters of tokens
    running="trtllm_num_requests_running",
    waiting="trtllm_num_requests_waiting",
    kv_usage="trtllm_kv_cache_utilization",
)
# A request names an adapter only through the gateway, so what is said of one is never the caller's doing.
_LORA = re.compile(r"\blora[ _](?:adapter|path|weights)\b|\bloading lora\b|\bvalid adapter\b", re.IGNORECASE)


class Trtllm:
    """The engine loads an adapter when a request names its path, so to it the path is the adapter's name."""

    health_path = "/health"  # /health_generate would cost an inference
    load_path = "/prometheus/metrics"  # /metrics gives each figure to one reader only
    salted_endpoints = frozenset({"chat.completions"})  # elsewhere an unknown field is refused

    def adapter_names(self, adapters: Mapping[str, Adapter]) -> Mapping[str, str]:
        return {name: adapter.path for name, adapter in adapters.items()}

    def select(self, body: dict[str, Any], engine_model: str, adapter: str | None) -> None:
        # whatever the caller put there would reach past the tenant's own adapters
        body.pop("lora_request", None)
        if adapter is None:
            body["model"] = engine_model
            return
        body["model"] = adapter  # a label only: trtllm-serve serves one model and does not look
        body["lora_request"] = {
            "lora_name": adapter,
            "lora_int_id": _stable_id(engine_model),
            "lora_path": engine_model,
        }

    def load(self, page: bytes) -> Load:
        return _PAGE.read(page)

    def error(self, status: int, body: bytes) -> GatewayError:
        return _judge(status, read_body(body))

    def frame_error(self, frame: Mapping[str, Any]) -> GatewayError | None:
        complaint = read_frame(frame)
        return None if complaint is None else _judge(frame_status(complaint), complaint)


def _judge(status: int, complaint: Complaint) -> GatewayError:
    # The path in it is the gateway's own, and nothing of the caller's is wrong.
    if status in (400, 404, 422, 500) and _LORA.search(complaint.message) is not None:
        return adapter_not_loaded(complaint)
    return judge(status, complaint)


def _stable_id(path: str) -> int:
    """The engine caches weights under this number: the same for every gateway, another for another path, never 0."""
    return (zlib.crc32(path.encode()) & 0x7FFF_FFFF) or 1
