"""What the gateway itself refuses: always an error in OpenAI's shape with its own id, never a 500, never silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.gateway_process import KEY, GatewayProcess, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker
from tests.wire.answers import checked, error_of, request_id
from tests.wire.raw import Answer, RawClient, chunked, head, post

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
GOOD = json.dumps({"model": "tiny", "messages": MESSAGES}).encode()
FENCED = "sk-test-fenced"
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


@pytest.fixture(scope="module")
def gateway(worker: LiveWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with LiveWorker(["vec@v1"], task="embed") as embedder:
        written = configuration(
            [worker_entry("w0", worker.url), worker_entry("e0", embedder.url, serves="vec@v1")],
            models={
                "tiny": {"context": 4096, "versions": {"v1": {}}},
                "vec": {"task": "embed", "context": 512, "versions": {"v1": {}}},
                "away": {"context": 512, "versions": {"v1": {}}},
            },
            tenants={"acme": tenant(KEY), "fenced": tenant(FENCED, models=["tiny"])},
        )
        with GatewayProcess(tmp_path_factory.mktemp("refusals"), written) as gateway:
            gateway.wait_ready()
            yield gateway


@pytest.fixture(scope="module")
def http(gateway: GatewayProcess) -> Iterator[httpx2.Client]:
    with gateway.client() as client:
        yield client


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "tiny", "messages": MESSAGES, **fields}).encode()


def nested(levels: int) -> bytes:
    return body(x="?").replace(b'"?"', b"[" * levels + b"]" * levels)


def raw_error(answer: Answer) -> dict[str, Any]:
    """The error of an answer to a raw client."""
    assert answer.complete
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    return checked(json.loads(answer.body)["error"])


# Bodies

BAD_BODIES: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", None),
    "cut off": (GOOD[:-1], None),
    "an array": (b"[]", None),
    "a string": (b'"tiny"', None),
    "null": (b"null", None),
    "a form": (b"model=tiny", None),
    "two documents": (GOOD + GOOD, None),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, None),
    "utf-16": (GOOD.decode().encode("utf-16"), None),
    "invalid utf-8": (GOOD.replace(b"hi", b"\xff\xfe"), None),
    "a NUL byte": (GOOD.replace(b"hi", b"h\x00i"), None),
    "nothing but NUL bytes": (b"\x00" * 64, None),
    "a lone surrogate": (GOOD.replace(b"hi", b"\\ud800"), None),
    "an endless number": (body(seed=0).replace(b": 0", b": " + b"9" * 400), None),
    "NaN": (body(temperature=0).replace(b": 0", b": NaN"), None),
    "nested deeper than a worker's body is written": (nested(260), None),
    "nested deeper than a body is read": (nested(2_000), None),
    "nested for ever": (b"[" * 1_000_000, None),
    "no model": (b'{"messages": []}', "model"),
    "a null model": (body(model=None), "model"),
    "a number as model": (body(model=5), "model"),
    "a list as model": (body(model=["tiny"]), "model"),
    "an empty model": (body(model=""), "model"),
    "a NUL in the model": (body(model="tiny\x00"), "model"),
    "line breaks in the model": (body(model="tiny\r\nx-evil: 1"), "model"),
    "an endless model": (body(model="x" * 100_000), "model"),
    "stream as text": (body(stream="true"), "stream"),
    "stream as number": (body(stream=1), "stream"),
    "stream options as text": (body(stream=True, stream_options="usage"), "stream_options"),
    "routing as text": (body(routing="cheap"), "routing"),
    "an unknown wish": (body(routing={"fastest": True}), "routing.fastest"),
    "an impossible wish": (body(routing={"max_ttft_ms": -1}), "routing.max_ttft_ms"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_body_that_is_no_request(name: str, http: httpx2.Client, gateway: GatewayProcess) -> None:
    content, param = BAD_BODIES[name]
    answer = http.post(CHAT, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    error = error_of(answer)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, "invalid_request")
    assert answer.headers["x-should-retry"] == "false"
    assert len(error["message"]) < 500
    assert gateway.request_line(request_id(answer))["outcome"] == "rejected"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/tokenize"])
def test_every_endpoint_says_what_is_wrong_with_json(path: str, http: httpx2.Client) -> None:
    answer = http.post(path, content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "could not parse the JSON" in error_of(answer)["message"]


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/json", GOOD),
        ("multipart/form-data", b"--b--"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b--"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny'),
        ("multipart/form-data; boundary=b", b"\x00" * 100),
        ("", b""),
    ],
)
def test_a_form_that_is_none(content_type: str, content: bytes, http: httpx2.Client) -> None:
    answer = http.post("/v1/audio/transcriptions", content=content, headers={"content-type": content_type})
    assert answer.status_code == 400
    assert error_of(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "x", "image/png"])
def test_json_is_json_whatever_it_is_called(content_type: str, http: httpx2.Client) -> None:
    assert http.post(CHAT, content=GOOD, headers={"content-type": content_type}).status_code == 200


def test_the_engine_judges_what_the_gateway_does_not_read(http: httpx2.Client) -> None:
    """A number too large for an integer, a negative temperature, a NUL in a text: the worker's to accept or refuse."""
    huge = http.post(CHAT, content=body(max_tokens=10**30))
    assert (huge.status_code, error_of(huge)["param"]) == (400, "max_tokens")
    cold = http.post(CHAT, json={"model": "tiny", "messages": MESSAGES, "temperature": -1})
    assert (cold.status_code, error_of(cold)["param"]) == (400, "temperature")
    assert "temperature must be non-negative" in error_of(cold)["message"]
    missing = http.post(CHAT, json={"model": "tiny"})
    assert (missing.status_code, error_of(missing)["param"]) == (400, "messages")
    assert http.post(CHAT, json={"model": "tiny", "messages": [{"role": "user", "content": "\0"}]}).status_code == 200


# Sizes


def test_a_body_of_100_megabytes_that_says_so(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(head(CHAT, f"authorization: Bearer {KEY}", f"content-length: {100 * MEGABYTE}"))
        client.send(*[b"x" * MEGABYTE] * 100)
        answer = client.answer()
        assert answer.status == 413
        assert raw_error(answer)["code"] == "request_too_large"
        client.send(post(CHAT, GOOD, f"authorization: Bearer {KEY}"))  # and the connection is none the worse
        assert client.answer().status == 200


def test_a_body_of_100_megabytes_in_chunks(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(head(CHAT, f"authorization: Bearer {KEY}", "transfer-encoding: chunked"))
        client.send(*chunked([b"x" * MEGABYTE] * 100))
        answer = client.answer()
        assert answer.status == 413
        assert raw_error(answer)["message"] == "The body is larger than 20 MB, the most this server takes."


def test_who_asks_first_need_not_send_too_much(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(head(CHAT, "expect: 100-continue", f"content-length: {100 * MEGABYTE}"))
        assert client.answer().status == 413


def test_a_prompt_beyond_any_context(http: httpx2.Client) -> None:
    answer = http.post(CHAT, json={"model": "tiny", "messages": [{"role": "user", "content": "x" * 100_000}]})
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "context_length_exceeded"


# Keys


@pytest.mark.parametrize(
    "header",
    [
        "x-nothing: 1",
        "authorization:",
        "authorization: Bearer",
        "authorization: Bearer   ",
        "authorization: Basic c2stdGVzdC1hY21lOg==",
        f"authorization: {KEY}",
        f"authorization: Bearer {KEY}x",
        f"authorization: Bearer {KEY.upper()}",
        f"authorization: Bearer {KEY} {KEY}",
        "authorization: Bearer \xff\xfe\x80",
        "authorization: Bearer " + "x" * 8_000,
        "x-api-key:",
        "x-api-key: sk-test-nobody",
        "api-key: " + KEY,
    ],
)
def test_a_key_that_opens_nothing(header: str, gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(post(CHAT, GOOD, header))
        answer = client.answer()
    assert answer.status == 401
    error = raw_error(answer)
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    assert answer.headers["x-should-retry"] == "false"
    assert "x" * 100 not in error["message"]


def test_the_key_is_looked_at_before_the_body(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(post(CHAT, b"not json"))
        assert client.answer().status == 401


def test_an_anthropic_client_gets_its_own_frame_around_the_error(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(post("/v1/messages", GOOD))
        answer = client.answer()
    document = json.loads(answer.body)
    assert document["type"] == "error"
    assert checked(document["error"])["code"] == "invalid_api_key"


# Models


def test_a_model_that_does_not_exist(http: httpx2.Client) -> None:
    for name in ("nope", "tiny@v2", "tiny:nope", "TINY", "tiny ", "tiny@", "../tiny", "auto"):
        answer = http.post(CHAT, json={"model": name, "messages": MESSAGES})
        assert answer.status_code == 404, name
        error = error_of(answer)
        assert (error["param"], error["code"]) == ("model", "model_not_found")


def test_a_model_of_others(gateway: GatewayProcess) -> None:
    with gateway.client(FENCED) as client:
        answer = client.post("/v1/embeddings", json={"model": "vec", "input": "hi"})
        assert answer.status_code == 403
        error = error_of(answer)
        assert (error["param"], error["code"]) == ("model", "model_not_allowed")
        assert client.post(CHAT, content=GOOD).status_code == 200


def test_a_model_that_does_something_else(http: httpx2.Client) -> None:
    for path, fields in (
        (CHAT, {"model": "vec", "messages": MESSAGES}),
        ("/v1/embeddings", {"model": "tiny", "input": "hi"}),
    ):
        answer = http.post(path, json=fields)
        assert answer.status_code == 400
        assert "does not support this endpoint" in error_of(answer)["message"]


def test_an_endpoint_that_the_engine_does_not_have(http: httpx2.Client) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nvec\r\n--b--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = http.post("/v1/audio/transcriptions", content=form, headers=headers)
    assert (answer.status_code, error_of(answer)["code"]) == (404, "unsupported_endpoint")


def test_a_model_without_a_worker(http: httpx2.Client) -> None:
    answer = http.post(CHAT, json={"model": "away", "messages": MESSAGES})
    assert (answer.status_code, error_of(answer)["code"]) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1
    assert "x-should-retry" not in answer.headers


# Paths, methods, and what is not HTTP


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CHAT, 405, "method_not_supported"),
        ("PUT", CHAT, 405, "method_not_supported"),
        ("DELETE", CHAT, 405, "method_not_supported"),
        ("PATCH", "/tokenize", 405, "method_not_supported"),
        ("POST", "/v1/models", 405, "method_not_supported"),
        ("POST", "/healthz", 405, "method_not_supported"),
        ("POST", CHAT + "/", 404, "unknown_url"),
        ("POST", "/chat/completions", 404, "unknown_url"),
        ("POST", "/v1/nope", 404, "unknown_url"),
        ("POST", "/v1/images/generations", 404, "unknown_url"),
        ("GET", "/", 404, "unknown_url"),
        ("GET", "/%00%ff", 404, "unknown_url"),
        ("GET", "/v1/models/nope", 404, "model_not_found"),
    ],
)
def test_a_path_or_method_that_leads_nowhere(
    method: str, path: str, status: int, code: str, http: httpx2.Client
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert error_of(answer)["code"] == code
    assert ("allow" in answer.headers) == (status == 405)


def test_a_large_body_to_nowhere(http: httpx2.Client) -> None:
    answer = http.post("/v1/nope", content=b"x" * 4 * MEGABYTE)
    assert (answer.status_code, error_of(answer)["code"]) == (404, "unknown_url")


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"FOO /v1/models HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        head(CHAT, "content-length: x"),
        head(CHAT, "content-length: 5", "transfer-encoding: chunked") + b"0\r\n\r\n",
        head(CHAT, "bad header: 1"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_not_http(sent: bytes, gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(sent)
        answer = client.answer()
    assert answer.status == 400
    assert raw_error(answer)["code"] == "invalid_http"


def test_a_head_that_is_too_large(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(head(CHAT, "x-large: " + "x" * 100_000))
        answer = client.answer()
    assert (answer.status, raw_error(answer)["code"]) == (431, "headers_too_large")
