"""vLLM's own error bodies, as its 0.32 source writes them, and whose fault each is."""

from __future__ import annotations

import orjson
import pytest

from gateway.engines import DIALECTS
from gateway.errors import GatewayError, Overloaded, WorkerFailed, WorkerRefused, WorkerTimeout

VLLM = DIALECTS["vllm"]


def said(message: str, type: str, code: int, param: str | None = None) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": type, "param": param, "code": code}})


TOO_LONG = (
    "This model's maximum context length is 512 tokens. However, your prompt contains 600 input tokens, which exceeds "
    "this limit even without any output tokens. Please reduce the length of the input prompt. "
    "(parameter=input_tokens, value=600)"
)
BUSY = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."


@pytest.mark.parametrize(
    "message",
    [
        TOO_LONG,
        "The decoder prompt (length 600) is longer than the maximum model length of 512. Make sure that …",
        "The engine prompt length 600 exceeds the max_model_len 512. Please reduce prompt.",
        "Input length (600) exceeds model's maximum context length (512).",
    ],
)
def test_a_prompt_that_does_not_fit_has_openais_code(message: str) -> None:
    error = VLLM.error(400, said(message, "BadRequestError", 400, "input_tokens"))
    assert isinstance(error, WorkerRefused)
    assert (error.status, error.code, error.type, error.param, error.message) == (
        400,
        "context_length_exceeded",
        "invalid_request_error",
        None,
        message,
    )


def test_a_bad_parameter_keeps_the_engines_words_and_names_the_parameter() -> None:
    message = "1 validation error:\n  {'type': 'less_than_equal', 'loc': 'body.temperature'}"
    error = VLLM.error(400, said(message, "Bad Request", 400, "body.temperature"))
    assert isinstance(error, WorkerRefused)
    assert error.fields() == {
        "message": message,
        "type": "invalid_request_error",
        "param": "temperature",
        "code": None,
    }
    assert not error.retryable


def test_an_unfetchable_image_is_a_bad_request_and_keeps_its_url() -> None:
    body = said("Failed to fetch https://img.example.com/x.png", "UnprocessableEntityError", 422)
    error = VLLM.error(422, body)
    assert (error.status, error.message) == (400, "Failed to fetch https://img.example.com/x.png")


@pytest.mark.parametrize("message", [BUSY, "The engine has reached its prefill token backlog limit. Please try …"])
def test_a_full_queue_is_overload(message: str) -> None:
    error = VLLM.error(503, said(message, "Service Unavailable", 503))
    assert isinstance(error, Overloaded)
    assert error.retry_after
    assert error.__notes__ == [message]


def test_a_lost_transfer_is_a_failure_of_the_worker_and_not_overload() -> None:
    error = VLLM.error(503, said("Request failed; please retry", "ServiceUnavailableError", 503))
    assert isinstance(error, WorkerFailed)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, b'{"error":"Unauthorized"}', "worker_unauthorized"),
        (403, said("Forbidden", "Forbidden", 403), "worker_unauthorized"),
        (404, said("The model `x` does not exist.", "NotFoundError", 404, "model"), "worker_lacks_model"),
        (404, said("The model `x` does not exist. Valid aliases: y.", "NotFoundError", 404), "worker_lacks_model"),
        (
            400,
            said("LoRA adapter 'x' was found but could not be loaded.", "BadRequestError", 400),
            "worker_lacks_model",
        ),
        (500, said("Internal server error", "InternalServerError", 500), "worker_failed"),
        (500, said("EngineCore encountered an issue.", "InternalServerError", 500), "worker_failed"),
        (502, b"<html><h1>502 Bad Gateway</h1></html>", "worker_failed"),
    ],
)
def test_what_the_gateway_or_the_worker_got_wrong_is_never_the_callers_fault(
    status: int, body: bytes, code: str
) -> None:
    error = VLLM.error(status, body)
    assert isinstance(error, WorkerFailed)
    assert (error.status, error.code, error.blame, error.retryable) == (502, code, "upstream", True)


def test_the_engines_words_about_its_own_failure_stay_inside() -> None:
    error = VLLM.error(500, said("CUDA out of memory on rank 3", "InternalServerError", 500))
    assert "CUDA" not in error.message
    assert error.__notes__ == ["CUDA out of memory on rank 3"]


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (404, "Not Found", "The model does not support this endpoint."),
        (405, "Method Not Allowed", "The model does not support this endpoint."),
        (501, "The model does not support Messages API", "The model does not support Messages API"),
    ],
)
def test_an_endpoint_the_engine_does_not_serve_is_the_callers_choice(status: int, message: str, expected: str) -> None:
    error = VLLM.error(status, said(message, "whatever", status))
    assert isinstance(error, WorkerRefused)
    assert (error.status, error.code, error.message) == (404, "unsupported_endpoint", expected)


def test_an_unknown_response_id_stays_a_404_of_the_caller() -> None:
    body = said("Response with id 'resp_1' not found.", "invalid_request_error", 404, "response_id")
    error = VLLM.error(404, body)
    assert isinstance(error, WorkerRefused)
    assert (error.status, error.param) == (404, "response_id")


def test_anthropic_shaped_errors_read_the_same() -> None:
    body = orjson.dumps({"type": "error", "error": {"type": "BadRequestError", "message": "max_tokens: too few"}})
    error = VLLM.error(400, body)
    assert isinstance(error, WorkerRefused)
    assert error.message == "max_tokens: too few"


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"error": {"message": BUSY, "type": "Service Unavailable", "param": None, "code": 503}}, Overloaded),
        ({"error": {"message": TOO_LONG, "type": "BadRequestError", "param": None, "code": 400}}, WorkerRefused),
        ({"error": {"message": "Internal server error", "type": "InternalServerError", "code": 500}}, WorkerFailed),
        ({"type": "error", "error": {"type": "internal_error", "message": "x"}}, WorkerFailed),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, Overloaded),
        ({"error": {"message": "gone", "type": "x", "code": 504}}, WorkerTimeout),
        ({"error": "text"}, WorkerFailed),
        ({"error": ["odd"]}, WorkerFailed),
        ({"error": {"code": 99_999}}, WorkerFailed),
        ({"error": {"code": True}}, WorkerFailed),
    ],
)
def test_an_error_inside_a_stream(frame: dict[str, object], expected: type[GatewayError]) -> None:
    assert isinstance(VLLM.frame_error(frame), expected)


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"id": "chatcmpl-1", "choices": [{"delta": {"content": "error"}}]},
        {"choices": [], "error": None},
        {"type": "response.failed", "response": {"error": {"code": "server_error"}}},
        {"object": "chat.completion.chunk", "error": {}},
    ],
)
def test_an_ordinary_event_is_no_error(frame: dict[str, object]) -> None:
    assert VLLM.frame_error(frame) is None


def test_an_adapter_is_selected_by_its_name() -> None:
    body: dict[str, object] = {"model": "alias", "messages": []}
    VLLM.select(body, "chat-8b:support", "support")
    assert body == {"model": "chat-8b:support", "messages": []}
