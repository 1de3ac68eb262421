"""What passes: every endpoint, whole and streamed; what arrives at the worker and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import orjson
import pytest

from tests.gateway_process import GatewayProcess, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker, ScriptedWorker, http_answer, http_stream
from tests.wire.answers import OURS, chunks, events, request_id, said
from tests.wire.raw import RawClient, post

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
ASKED, VECTORS = "gpt-4o-mini", "text-embedding-3-small"

ENDPOINTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"model": ASKED, **CHAT}),
    ("/v1/completions", {"model": ASKED, "prompt": "hi"}),
    ("/v1/responses", {"model": ASKED, "input": "hi"}),
    ("/v1/messages", {"model": ASKED, "max_tokens": 8, **CHAT}),
    ("/v1/embeddings", {"model": VECTORS, "input": "hi"}),
    ("/v1/rerank", {"model": VECTORS, "query": "hi", "documents": ["a", "b"]}),
    ("/v1/score", {"model": VECTORS, "text_1": "hi", "text_2": "ho"}),
    ("/tokenize", {"model": ASKED, "prompt": "hi"}),
    ("/detokenize", {"model": ASKED, "tokens": [104, 105]}),
]
STREAMING = ENDPOINTS[:4]

# Answers as no serializer here would write them.
ODD_DOCUMENT = (
    b'{ "usage": {"prompt_tokens": 3,"completion_tokens":2 },\r\n "n": 1.50, "model" : "x",\t"model": "tiny@v1"}'
)
ODD_EVENTS = (
    b": a comment\n\n",
    b'data: {"id": "1" ,"model": "tiny@v1","choices":[{"delta":{"content":"\\"model\\":\\"tiny@v1\\""}}]}\r\n\r\n',
    b'id: 7\ndata: {"model":"tiny@v1","choices":[{"delta":{"content":"b"}}] }\n\n',
    b"data: [DONE]\n\n",
)
SPLIT_EVENTS = (b'data: {"mo', b'del":"tiny', b'@v1","choices":[{}]}\n', b"\ndata: [DO", b"NE]\n\n")


@pytest.fixture(scope="module")
def writer() -> Iterator[LiveWorker]:
    with LiveWorker(adapters=["tiny@v1:sql"]) as worker:
        yield worker


@pytest.fixture(scope="module")
def embedder() -> Iterator[LiveWorker]:
    with LiveWorker(["vec@v1"], task="embed") as worker:
        yield worker


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedWorker]:
    scripts = {
        "document": http_answer(
            ODD_DOCUMENT, more=b"server: secret/1.0\r\nset-cookie: a=b\r\nx-request-id: theirs\r\n"
        ),
        "stream": http_stream(*ODD_EVENTS),
        "split": http_stream(*SPLIT_EVENTS),
        "text": http_answer(b"just words", content_type=b"text/plain; charset=utf-8"),
        "unmeasured": http_answer(b'{"model":"odd@v1"}'),
    }
    with ScriptedWorker(**scripts) as worker:
        yield worker


@pytest.fixture(scope="module")
def gateway(
    writer: LiveWorker, embedder: LiveWorker, scripted: ScriptedWorker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    written = configuration(
        [
            worker_entry("w0", writer.url),
            worker_entry("e0", embedder.url, serves="vec@v1"),
            worker_entry("s0", scripted.url, serves="odd@v1", serves_as="tiny@v1"),
        ],
        models={
            "tiny": {"context": 32768, "versions": {"v1": {}}, "adapters": {"sql": {"path": "adapters/sql"}}},
            "vec": {"task": "embed", "context": 512, "versions": {"v1": {}}},
            "odd": {"context": 512, "versions": {"v1": {}}},
        },
        aliases={ASKED: "tiny", VECTORS: "vec", "helpdesk": "tiny:sql"},
        tenants={"acme": tenant("sk-test-acme"), "zeta": tenant("sk-test-zeta")},
    )
    with GatewayProcess(tmp_path_factory.mktemp("relay"), written) as gateway:
        gateway.wait_ready()
        yield gateway


@pytest.fixture(scope="module")
def http(gateway: GatewayProcess) -> Iterator[httpx2.Client]:
    with gateway.client() as client:
        yield client


def chat(http: httpx2.Client, **fields: Any) -> httpx2.Response:
    return http.post("/v1/chat/completions", json={"model": ASKED, **CHAT, **fields})


# Every endpoint


@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
def test_a_document_of_every_endpoint(
    path: str, body: dict[str, Any], http: httpx2.Client, gateway: GatewayProcess
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 200
    assert answer.json().get("model", body["model"]) == body["model"]
    model, worker = ("vec@v1", "e0") if body["model"] == VECTORS else ("tiny@v1", "w0")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-tollgate-model"] == model
    assert answer.headers["x-tollgate-worker"] == worker
    assert answer.headers["x-tollgate-route"] == "direct"
    assert answer.headers["x-tollgate-attempts"] == "1"
    assert answer.headers["x-tollgate-cache"] in ("bypass", "miss")
    assert set(answer.headers) <= OURS
    (row,) = gateway.rows(request_id(answer))
    assert float(answer.headers["x-tollgate-cost-usd"]) * 1e9 == pytest.approx(row["cost_nanousd"])
    assert (row["tenant"], row["key_id"], row["model_asked"]) == ("acme", "k1", body["model"])
    assert (row["worker"], row["outcome"], row["status"], row["estimated"]) == (worker, "ok", 200, 0)


@pytest.mark.parametrize(("path", "body"), STREAMING)
def test_a_stream_of_every_endpoint_that_streams(
    path: str, body: dict[str, Any], http: httpx2.Client, gateway: GatewayProcess
) -> None:
    answer = http.post(path, json={**body, "stream": True})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-tollgate-attempts"] == "1"
    assert answer.headers["cache-control"] == "no-cache"
    assert set(answer.headers) <= OURS
    assert b"tiny@v1" not in answer.content
    kinds = [kind for kind, _ in events(answer.content)]
    last = events(answer.content)[-1]
    if path == "/v1/messages":
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    elif path == "/v1/responses":
        assert "response.completed" in (kinds[-1], kinds[-2])
    else:
        assert last == ("", b"[DONE]")
    (row,) = gateway.rows(request_id(answer))
    assert row["outcome"] == "ok"
    assert row["output_tokens"] > 0
    assert row["ttft_seconds"] is not None


@pytest.mark.parametrize(("path", "body"), STREAMING)
def test_a_stream_says_what_its_document_says(path: str, body: dict[str, Any], http: httpx2.Client) -> None:
    document = http.post(path, json=body).json()
    streamed = http.post(path, json={**body, "stream": True}).content
    if path == "/v1/chat/completions":
        assert said(streamed) == document["choices"][0]["message"]["content"]
    elif path == "/v1/completions":
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks(streamed)) == document["choices"][0]["text"]
    elif path == "/v1/messages":
        deltas = [orjson.loads(data).get("delta", {}).get("text", "") for _, data in events(streamed)]
        assert "".join(deltas) == document["content"][0]["text"]
    else:
        deltas = [orjson.loads(data) for kind, data in events(streamed) if kind == "response.output_text.delta"]
        assert "".join(delta["delta"] for delta in deltas) == document["output"][0]["content"][0]["text"]


# What comes back


def test_a_document_passes_byte_for_byte_but_for_its_model(http: httpx2.Client) -> None:
    answer = http.post("/v1/chat/completions", json={"model": "odd", "script": "document"})
    assert answer.content == ODD_DOCUMENT.replace(b'"model": "tiny@v1"', b'"model": "odd"')


def test_a_document_asked_for_by_the_engines_own_name_passes_byte_for_byte(http: httpx2.Client) -> None:
    answer = http.post("/v1/completions", json={"model": "odd@v1", "script": "unmeasured"})
    assert answer.content == b'{"model":"odd@v1"}'


def test_a_stream_passes_byte_for_byte_but_for_its_model(http: httpx2.Client) -> None:
    answer = http.post("/v1/chat/completions", json={"model": "odd", "script": "stream", "stream": True})
    expected = b"".join(ODD_EVENTS).replace(b'"model": "tiny@v1"', b'"model": "odd"')
    assert answer.content == expected.replace(b'{"model":"tiny@v1"', b'{"model":"odd"')
    assert b'\\"model\\":\\"tiny@v1\\"' in answer.content


def test_a_stream_cut_anywhere_passes_whole(http: httpx2.Client) -> None:
    answer = http.post("/v1/completions", json={"model": "odd", "script": "split", "stream": True})
    assert answer.content == b'data: {"model":"odd","choices":[{}]}\n\ndata: [DONE]\n\n'


def test_what_is_not_json_passes_too(http: httpx2.Client) -> None:
    answer = http.post("/v1/completions", json={"model": "odd", "script": "text"})
    assert (answer.text, answer.headers["content-type"]) == ("just words", "text/plain; charset=utf-8")


def test_the_workers_headers_stay_behind(http: httpx2.Client, scripted: ScriptedWorker) -> None:
    answer = http.post("/v1/chat/completions", json={"model": "odd", "script": "document"})
    assert set(answer.headers) <= OURS
    assert request_id(answer).startswith("req_")
    assert scripted.url.removeprefix("http://") not in str(answer.headers)


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": False}}, {"stream_options": None}])
@pytest.mark.parametrize(("path", "body"), STREAMING[:2])
def test_no_usage_unless_asked_for(
    path: str, body: dict[str, Any], options: dict[str, Any], http: httpx2.Client, writer: LiveWorker
) -> None:
    answer = http.post(path, json={**body, "stream": True, **options})
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks(answer.content))
    assert writer.body(request_id(answer))["stream_options"]["include_usage"] is True


@pytest.mark.parametrize(("path", "body"), STREAMING[:2])
def test_usage_when_asked_for(path: str, body: dict[str, Any], http: httpx2.Client) -> None:
    answer = http.post(path, json={**body, "stream": True, "stream_options": {"include_usage": True}})
    *_, last = chunks(answer.content)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 16


def test_usage_in_every_chunk_when_asked_for(http: httpx2.Client, gateway: GatewayProcess) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    answer = chat(http, stream=True, stream_options=options)
    assert all("usage" in chunk for chunk in chunks(answer.content))
    assert gateway.rows(request_id(answer))[0]["output_tokens"] == 16


def test_a_model_is_echoed_as_it_was_asked_for(http: httpx2.Client, writer: LiveWorker) -> None:
    for asked, arrives in (
        (ASKED, "tiny@v1"),
        ("tiny", "tiny@v1"),
        ("tiny@v1", "tiny@v1"),
        ("tiny:sql", "tiny@v1:sql"),
        ("tiny@v1:sql", "tiny@v1:sql"),
        ("helpdesk", "tiny@v1:sql"),
    ):
        answer = chat(http, model=asked)
        assert answer.json()["model"] == asked
        assert writer.body(request_id(answer))["model"] == arrives
        streamed = chat(http, model=asked, stream=True)
        assert {chunk["model"] for chunk in chunks(streamed.content)} == {asked}


def test_events_arrive_one_by_one(gateway: GatewayProcess, writer: LiveWorker) -> None:
    """Nothing on the way gathers them: the first is here while the worker still waits to say the second."""
    body = {"model": ASKED, **CHAT, "stream": True, "standin": {"tokens": 3, "pace": 60}}
    with RawClient(gateway.port) as client:
        client.send(post("/v1/chat/completions", orjson.dumps(body), "authorization: Bearer sk-test-acme"))
        begun = client.read_until(b'"content":"The"')
        assert writer.active == 1
        assert b" worker" not in begun


# What arrives


def test_what_the_gateway_does_not_know_arrives_as_it_was_sent(http: httpx2.Client, writer: LiveWorker) -> None:
    fields = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        "tool_choice": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        "logprobs": True,
        "top_logprobs": 3,
        "n": 2,
        "temperature": 0.30000000000000004,
        "seed": 2**63,
        "logit_bias": {"50256": -100},
        "stop": ["\n", "é", "\u2028", "😀"],
        "user": "u-1",
        "metadata": {"tags": ["a"]},
        "guided_regex": "\\d+\\\"'",
        "vllm_xargs": {"deep": [[[{"a": None}]]]},
        "priority": -5,
    }
    answer = chat(http, **fields)
    assert answer.status_code == 200
    arrived = writer.body(request_id(answer))
    assert {name: arrived[name] for name in fields} == fields
    assert set(arrived) == {"model", "messages", "cache_salt", *fields}
    assert len(answer.json()["choices"]) == 2


def test_routing_never_arrives(http: httpx2.Client, writer: LiveWorker) -> None:
    answer = chat(http, routing={"optimize": "cost", "only": ["w0"]})
    assert answer.status_code == 200
    (seen,) = writer.seen(request_id(answer))
    assert b"routing" not in seen.body


def test_the_worker_learns_the_request_id_and_the_trace_and_nothing_of_the_client(
    http: httpx2.Client, writer: LiveWorker
) -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    headers = {"traceparent": parent, "cookie": "session=1", "x-api-key": "other", "user-agent": "secret-agent"}
    answer = http.post("/v1/chat/completions", json={"model": ASKED, **CHAT}, headers=headers)
    (seen,) = writer.seen(request_id(answer))
    assert seen.headers["traceparent"] == parent
    assert set(seen.headers) == {"host", "content-type", "content-length", "x-request-id", "traceparent"}


def test_a_traceparent_that_is_none_is_not_passed_on(http: httpx2.Client, writer: LiveWorker) -> None:
    answer = http.post("/v1/chat/completions", json={"model": ASKED, **CHAT}, headers={"traceparent": "00-zz-1"})
    (seen,) = writer.seen(request_id(answer))
    assert "traceparent" not in seen.headers


def test_a_request_id_is_always_the_gateways_own(http: httpx2.Client) -> None:
    ids = {
        request_id(http.post("/v1/chat/completions", json={"model": ASKED, **CHAT}, headers={"x-request-id": "mine"}))
        for _ in range(3)
    }
    assert len(ids) == 3
    assert "mine" not in ids


def test_tenants_have_prefix_caches_of_their_own(gateway: GatewayProcess, writer: LiveWorker) -> None:
    def salt(key: str, **fields: Any) -> str:
        with gateway.client(key) as client:
            return writer.body(request_id(chat(client, **fields)))["cache_salt"]

    assert salt("sk-test-acme") == salt("sk-test-acme")
    assert salt("sk-test-acme") != salt("sk-test-zeta")
    # A client may keep its own users apart, but not step into another tenant's cache.
    assert salt("sk-test-acme", cache_salt="user-7") == salt("sk-test-acme", cache_salt="user-7")
    assert salt("sk-test-acme", cache_salt="user-7") not in (salt("sk-test-acme"), "user-7")
    assert salt("sk-test-zeta", cache_salt=salt("sk-test-acme")) != salt("sk-test-acme")


def test_a_query_string_is_not_in_the_way(http: httpx2.Client) -> None:
    answer = http.post("/v1/chat/completions?api-version=2024-10-01", json={"model": ASKED, **CHAT})
    assert answer.status_code == 200


def test_the_key_may_come_as_x_api_key(gateway: GatewayProcess) -> None:
    answer = httpx2.post(
        f"{gateway.url}/v1/messages",
        json={"model": ASKED, "max_tokens": 4, **CHAT},
        headers={"x-api-key": "sk-test-acme", "anthropic-version": "2023-06-01"},
        trust_env=False,
    )
    assert answer.status_code == 200


# Multipart


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations"])
def test_a_form_arrives_byte_for_byte_but_for_its_model(path: str, http: httpx2.Client, writer: LiveWorker) -> None:
    sound = bytes(range(256)) * 64 + b'\r\n--not-the-boundary\r\nname="model"\r\n\r\nwrong'
    body = (
        b'--b0und\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4o-mini\r\n'
        b'--b0und\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\n" + sound + b"\r\n"
        b'--b0und\r\nContent-Disposition: form-data; name="language"\r\n\r\nd\xc3\xa9\r\n--b0und--\r\n'
    )
    answer = http.post(path, content=body, headers={"content-type": "multipart/form-data; boundary=b0und"})
    assert answer.status_code == 200
    assert answer.json()["text"] == "The words that were said."
    (seen,) = writer.seen(request_id(answer))
    assert seen.body == body.replace(b"\r\n\r\ngpt-4o-mini\r\n", b"\r\n\r\ntiny@v1\r\n")
    assert seen.headers["content-type"] == 'multipart/form-data; boundary="b0und"'


# Large


def test_a_large_body_and_a_large_answer_pass_whole(http: httpx2.Client, writer: LiveWorker) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000_000}}
    answer = chat(http, messages=[{"role": "user", "content": [picture, {"type": "text", "text": "what is it?"}]}])
    assert answer.status_code == 200
    assert writer.body(request_id(answer))["messages"][0]["content"][0] == picture
    vectors = http.post("/v1/embeddings", json={"model": VECTORS, "input": [f"{i}" for i in range(5000)]})
    assert len(vectors.json()["data"]) == 5000
    tokens = chat(http, stream=True, standin={"tokens": 20_000})
    assert len(chunks(tokens.content)) == 20_001
