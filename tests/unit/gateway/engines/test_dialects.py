"""The other engines' ways, and what must hold for every dialect whatever a worker sends."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engines import DIALECTS
from gateway.engines.complaint import MAX_FIELD_CHARS, MAX_MESSAGE_CHARS, tidy
from gateway.engines.dialect import Dialect, TakesAdapterPaths
from gateway.errors import AdapterNotLoaded, GatewayError, Overloaded, WorkerFailed, WorkerRefused
from gateway.protocol.endpoints import ENDPOINTS
from gateway.table import Adapter, Engine

ENGINES = sorted(DIALECTS)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["error", "message", "type", "code", "param", "detail", "object", "error_type", "loc"])
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


def every_dialect() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("dialect", [DIALECTS[name] for name in ENGINES], ids=ENGINES)


def assert_sound(error: GatewayError) -> None:
    """What a client may see of any error: OpenAI's shape, bounded, an honest status."""
    document = orjson.loads(error.body())["error"]
    assert set(document) == {"message", "type", "param", "code"}
    assert document["message"]
    assert isinstance(document["type"], str)
    assert document["type"]
    assert document["code"] is None or isinstance(document["code"], str)
    assert len(document["message"]) <= MAX_MESSAGE_CHARS
    assert document["param"] is None or len(document["param"]) <= MAX_FIELD_CHARS
    assert 400 <= error.status <= 599
    assert (error.status < 500) == isinstance(error, WorkerRefused)


@every_dialect()
@given(status=st.integers(300, 599), document=JSON)
def test_any_json_gives_a_sound_error(dialect: Dialect, status: int, document: object) -> None:
    assert_sound(dialect.error(status, orjson.dumps(document)))


@every_dialect()
@given(status=st.integers(300, 599), body=st.binary(max_size=200))
def test_any_bytes_give_a_sound_error(dialect: Dialect, status: int, body: bytes) -> None:
    assert_sound(dialect.error(status, body))


@every_dialect()
@given(frame=st.dictionaries(st.sampled_from(["error", "object", "type", "message", "code"]), JSON))
def test_any_event_gives_nothing_or_a_sound_error(dialect: Dialect, frame: dict[str, object]) -> None:
    error = dialect.frame_error(frame)
    assert error is None or assert_sound(error) is None
    assert error is not None or not frame.get("error")


@every_dialect()
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>400 Bad Request</body></html>",
        b"\xff\xfe\x00garbage",
        b'{"error":' * 5_000,
        b'{"error":{"message":' + b"[" * 2_000 + b"]" * 2_000 + b"}}",
        b'{"error":{"message":"' + b"x" * 3_000_000 + b'"}}',
        b"null",
        b"[]",
    ],
    ids=["empty", "html", "not-utf8", "broken", "deep", "huge", "null", "list"],
)
def test_an_unreadable_refusal_says_at_least_that(dialect: Dialect, body: bytes) -> None:
    error = dialect.error(400, body)
    assert isinstance(error, WorkerRefused)
    assert error.message == "The engine refused the request without saying why (HTTP 400)."


@every_dialect()
def test_a_long_message_is_cut(dialect: Dialect) -> None:
    error = dialect.error(400, orjson.dumps({"error": {"message": "x" * 100_000, "type": "t", "code": 400}}))
    assert len(error.message) == MAX_MESSAGE_CHARS


@every_dialect()
@pytest.mark.parametrize("status", [401, 403])
def test_the_gateways_own_credentials_are_not_the_callers_fault(dialect: Dialect, status: int) -> None:
    error = dialect.error(status, orjson.dumps({"error": {"message": "bad key", "code": "invalid_api_key"}}))
    assert isinstance(error, WorkerFailed)
    assert error.code == "worker_unauthorized"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cannot reach http://10.0.0.5:8000/v1 now", "cannot reach <address> now"),
        ("connect to 10.0.0.5:8000 failed", "connect to <address> failed"),
        ("bound to localhost:8000.", "bound to <address>."),
        ("peer [fe80::1]:9000 left", "peer <address> left"),
        ("at http://vllm-chat.prod.svc.cluster.local/v1!", "at <address>"),
        ("at http://worker/v1", "at <address>"),
        ("image https://example.com/a.png?x=1 is too large", "image https://example.com/a.png?x=1 is too large"),
        ("temperature must be <= 2.0, got 3.5", "temperature must be <= 2.0, got 3.5"),
    ],
)
def test_addresses_never_get_out(text: str, kept: str) -> None:
    assert tidy(text) == kept


def test_trtllm_speaks_flat() -> None:
    trtllm = DIALECTS["trtllm"]
    error = trtllm.error(
        400, b'{"object":"error","message":"max_tokens must be positive","type":"BadRequestError","code":400}'
    )
    assert (error.status, error.message) == (400, "max_tokens must be positive")
    assert trtllm.error(400, b'{"error":"field required: messages"}').message == "field required: messages"
    assert isinstance(trtllm.error(503, b""), Overloaded)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_trtllm_says_no_path_of_an_adapter_it_could_not_load(status: int) -> None:
    message = "Loading lora br failed: /srv/adapters/br is not a valid adapter."
    body = orjson.dumps({"object": "error", "message": message, "type": "BadRequestError", "code": status})
    error = DIALECTS["trtllm"].error(status, body)
    assert (error.status, error.code) == (503, "adapter_not_loaded")
    assert "/srv" not in error.message
    assert error.__notes__ == [message]  # that is for the operator
    frame = DIALECTS["trtllm"].frame_error({"error": {"message": message, "code": status}})
    assert isinstance(frame, AdapterNotLoaded)


def test_trtllm_takes_an_adapter_by_its_path() -> None:
    trtllm = DIALECTS["trtllm"]
    assert isinstance(trtllm, TakesAdapterPaths)
    names = trtllm.adapter_names({"support": Adapter(name="support", path="adapters/support-v3", tenants=None)})
    body: dict[str, object] = {"model": "chat-8b:support"}
    trtllm.select(body, names["support"], "support")
    lora = body["lora_request"]
    assert isinstance(lora, dict)
    assert (lora["lora_name"], lora["lora_path"]) == ("support", "adapters/support-v3")
    again: dict[str, object] = {}
    trtllm.select(again, "adapters/support-v3", "support")
    assert again["lora_request"] == lora, "the same adapter has the same id everywhere"
    other: dict[str, object] = {}
    trtllm.select(other, "adapters/support-v4", "support")
    assert other["lora_request"] != lora, "a new version never meets the old one's weights"


@pytest.mark.parametrize(("engine", "field"), [("trtllm", "lora_request"), ("sglang", "lora_path")])
def test_a_caller_cannot_reach_an_adapter_past_the_gateway(engine: Engine, field: str) -> None:
    body: dict[str, object] = {"model": "chat", field: "someone-elses"}
    DIALECTS[engine].select(body, "chat-8b", None)
    assert body == {"model": "chat-8b"}


@pytest.mark.parametrize(("name", "model"), [("support", "support"), ("chat-8b:support", "chat-8b")])
def test_sglang_names_adapters_in_lora_path(name: str, model: str) -> None:
    body: dict[str, object] = {"lora_path": "someone-elses"}
    DIALECTS["sglang"].select(body, name, "support")
    assert body == {"model": model, "lora_path": name}


def test_sglang_errors_come_flat_and_as_events() -> None:
    sglang = DIALECTS["sglang"]
    flat = {
        "object": "error",
        "message": "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    }
    assert sglang.error(400, orjson.dumps(flat)).code == "context_length_exceeded"
    busy = {"object": "error", "message": "queue full", "type": "SERVICE_UNAVAILABLE", "code": 503}
    assert isinstance(sglang.frame_error({"error": busy}), Overloaded)
    assert isinstance(sglang.frame_error(busy), Overloaded)
    assert isinstance(sglang.frame_error(flat), WorkerRefused)


def test_sglangs_health_costs_no_token() -> None:
    assert DIALECTS["sglang"].health_path == "/v1/models"


def test_tgi_overload_is_429_and_validation_422() -> None:
    tgi = DIALECTS["tgi"]
    assert isinstance(tgi.error(429, b'{"error":"Model is overloaded","error_type":"overloaded"}'), Overloaded)
    too_long = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"
    error = tgi.error(422, orjson.dumps({"error": too_long, "error_type": "validation"}))
    assert (error.status, error.code) == (400, "context_length_exceeded")
    failed = b'{"error":"Request failed during generation: CUDA","error_type":"generation"}'
    assert isinstance(tgi.error(424, failed), WorkerFailed)
    assert isinstance(tgi.frame_error({"error": "Model is overloaded", "error_type": "overloaded"}), Overloaded)
    assert isinstance(tgi.frame_error({"error": "x", "error_type": "generation"}), WorkerFailed)
    assert isinstance(tgi.frame_error({"error": "bad top_p", "error_type": "validation"}), WorkerRefused)
    unserved = tgi.error(404, b"")
    assert unserved.code == "unsupported_endpoint", "TGI answers unknown paths with an empty 404"


def test_tgi_knows_its_base_model_as_tgi() -> None:
    body: dict[str, object] = {}
    DIALECTS["tgi"].select(body, "org/model", None)
    assert body == {"model": "tgi"}
    DIALECTS["tgi"].select(body, "support", "support")
    assert body == {"model": "support"}


def test_a_hosted_endpoints_codes_pass() -> None:
    openai = DIALECTS["openai"]
    body = orjson.dumps(
        {
            "error": {
                "message": "Unsupported value: 'temperature'",
                "type": "invalid_request_error",
                "param": "temperature",
                "code": "unsupported_value",
            }
        }
    )
    error = openai.error(400, body)
    assert isinstance(error, WorkerRefused)
    assert (error.code, error.param) == ("unsupported_value", "temperature")
    assert isinstance(openai.error(429, b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}'), Overloaded)


@pytest.mark.parametrize("status", [402, 429])
def test_the_gateways_empty_account_is_not_the_callers(status: int) -> None:
    error = DIALECTS["openai"].error(status, b'{"error":{"message":"quota","code":"insufficient_quota"}}')
    assert isinstance(error, WorkerFailed)
    assert error.code == "worker_account"


def test_pydantic_details_read_as_a_sentence() -> None:
    detail = {"detail": [{"loc": ["body", "messages"], "msg": "Field required", "type": "missing"}]}
    error = DIALECTS["sglang"].error(422, orjson.dumps(detail))
    assert (error.status, error.message) == (400, "body.messages: Field required")


def test_engines_not_run_here_say_so() -> None:
    folder = Path(__import__("gateway.engines", fromlist=["x"]).__file__).parent
    for engine in ("trtllm", "triton", "sglang", "tgi", "openai"):
        docstring = " ".join((folder / f"{engine}.py").read_text().split('"""')[1].split())
        assert "not run against" in docstring


@every_dialect()
def test_salted_endpoints_are_endpoints_of_the_gateway(dialect: Dialect) -> None:
    assert dialect.salted_endpoints <= {endpoint.name for endpoint in ENDPOINTS.values()}
