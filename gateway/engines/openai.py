"""A hosted endpoint that speaks OpenAI's API. Its types and codes are already the ones a client expects.

Built to OpenAI's published contract and tested against a stand-in of it; not run against any hosted service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.engines.complaint import Complaint, read_body, read_frame
from gateway.engines.judgement import failed, frame_status, judge, refused
from gateway.errors import GatewayError, WorkerRefused

_OUR_ACCOUNT = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"}
)


class OpenAi:
    health_path = "/v1/models"
    salted_endpoints: frozenset[str] = frozenset()

    def select(self, body: dict[str, Any], engine_model: str, adapter: str | None) -> None:
        body["model"] = engine_model

    def error(self, status: int, body: bytes) -> GatewayError:
        return _judge(status, read_body(body))

    def frame_error(self, frame: Mapping[str, Any]) -> GatewayError | None:
        complaint = read_frame(frame)
        return None if complaint is None else _judge(frame_status(complaint), complaint)


def _judge(status: int, complaint: Complaint) -> GatewayError:
    # The quota that is spent is the gateway's, not the caller's: neither waiting nor the caller's plan will help.
    if status == 402 or complaint.code in _OUR_ACCOUNT or complaint.type in _OUR_ACCOUNT:
        return failed(complaint, "The hosted endpoint declines the gateway's account.", "worker_account")
    error = judge(status, complaint)
    if isinstance(error, WorkerRefused) and isinstance(complaint.code, str) and error.code is None:
        return refused(status, complaint, type=complaint.type or error.type, code=complaint.code)
    return error
