"""Hugging Face's Text Generation Inference: `{error, error_type}`, overload as 429, a failed generation as 424.

Built to TGI's published contract and tested against a stand-in of it; not run against the engine, and its adapters are
not verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.engines.complaint import read_body, read_frame
from gateway.engines.judgement import frame_status, judge
from gateway.engines.load import Load, Page
from gateway.errors import GatewayError

_BY_TYPE = {
    "overloaded": 429,
    "validation": 422,
    "template_error": 422,
    "missing_template_variable": 422,
    "tool_error": 422,
    "generation": 424,
    "incomplete_generation": 500,
}

# Its token counts are of finished requests only, as histograms: none that a ledger could be held against.
_PAGE = Page(running="tgi_batch_current_size", waiting="tgi_queue_size")


class Tgi:
    health_path = "/health"
    load_path = "/metrics"
    salted_endpoints: frozenset[str] = frozenset()

    def select(self, body: dict[str, Any], engine_model: str, adapter: str | None) -> None:
        # TGI takes every model name but "tgi" for an adapter's
        body["model"] = "tgi" if adapter is None else engine_model

    def load(self, page: bytes) -> Load:
        return _PAGE.read(page)

    def error(self, status: int, body: bytes) -> GatewayError:
        return judge(status, read_body(body))

    def frame_error(self, frame: Mapping[str, Any]) -> GatewayError | None:
        complaint = read_frame(frame)
        return None if complaint is None else judge(frame_status(complaint, _BY_TYPE), complaint)
