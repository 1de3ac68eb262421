"""A hosted endpoint: OpenAI's errors with their codes, overload as 429, nothing beside /v1."""

from __future__ import annotations

from http import HTTPStatus

from loadtests.standin.dialect.speech import Speech
from loadtests.standin.engine import Answer
from loadtests.standin.engines.common import OF_VLLM_ALONE, document
from loadtests.standin.errors import Refusal


def _answer(refusal: Refusal) -> Answer:
    status, code, kind = refusal.status, None, "invalid_request_error"
    if status == 503:
        status, code, kind = 429, "rate_limit_exceeded", "requests"
    elif status == 404:
        code = "model_not_found"
    elif status >= 500:
        kind = "server_error"
    message = refusal.message if code != "rate_limit_exceeded" else HTTPStatus(429).phrase
    return document({"error": {"message": message, "type": kind, "param": refusal.param, "code": code}}, status)


HOSTED = Speech(lacks=OF_VLLM_ALONE | {"/health", "/metrics", "/tokenize", "/detokenize"}, answer=_answer)
