"""What a worker says or does wrong, and what its client gets: one worker, so nobody else can help."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import orjson
import pytest

from tests.gateway_process import KEY, GatewayProcess, configuration, worker_entry
from tests.live_worker import LiveWorker, ScriptedWorker, http_answer, http_stream
from tests.wire.answers import OURS, checked, error_of, events, request_id
from tests.wire.raw import RawClient, post

MESSAGES = [{"role": "user", "content": "hi"}]
HASTY = {"connect": "1s", "first_token": "1s", "idle": "1s", "total": "3s"}

ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 64},
}

NAMED = ("/v1/responses", "/v1/messages")  # their errors are named events


def refusal(status: bytes, document: object) -> bytes:
    return http_answer(orjson.dumps(document), status=status)


def vllm(status: int, message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "Error", "param": None, "code": status, **fields}}


# What an engine or something before it may answer: (bytes, status, type, code) with what the client is to get.
ANSWERS: dict[str, tuple[bytes, int, str, str | None]] = {
    "a bad parameter": (
        refusal(b"400 Bad Request", vllm(400, "top_k must be -1 or at least 1", type="BadRequestError", param="top_k")),
        *(400, "invalid_request_error", None),
    ),
    "a prompt that is too long": (
        refusal(b"400 Bad Request", vllm(400, "This model's maximum context length is 512 tokens.")),
        *(400, "invalid_request_error", "context_length_exceeded"),
    ),
    "a form error": (
        refusal(b"422 Unprocessable Entity", {"detail": [{"loc": ["body", "n"], "msg": "wrong"}]}),
        *(400, "invalid_request_error", None),
    ),
    "too large": (
        refusal(b"413 Payload Too Large", vllm(413, "too many images")),
        *(413, "invalid_request_error", None),
    ),
    "our key is wrong": (
        refusal(b"401 Unauthorized", {"error": "Unauthorized"}),
        *(502, "upstream_error", "worker_unauthorized"),
    ),
    "our key may not": (
        refusal(b"403 Forbidden", {"detail": "Forbidden"}),
        *(502, "upstream_error", "worker_unauthorized"),
    ),
    "it does not have the model": (
        refusal(b"404 Not Found", vllm(404, "The model `tiny@v1` does not exist.", type="NotFoundError")),
        *(502, "upstream_error", "worker_lacks_model"),
    ),
    "it does not have the endpoint": (
        refusal(b"404 Not Found", {"detail": "Not Found"}),
        *(404, "invalid_request_error", "unsupported_endpoint"),
    ),
    "a proxy that does not find it": (
        http_answer(b"<html>nginx</html>", status=b"404 Not Found", content_type=b"text/html"),
        *(502, "upstream_error", "worker_failed"),
    ),
    "a full queue": (
        refusal(b"503 Service Unavailable", vllm(503, "The engine is currently busy", type="Service Unavailable")),
        *(503, "overloaded_error", "overloaded"),
    ),
    "too many requests": (
        refusal(b"429 Too Many Requests", {"error": "Model is overloaded", "error_type": "overloaded"}),
        *(503, "overloaded_error", "overloaded"),
    ),
    "a dead engine": (
        refusal(b"500 Internal Server Error", vllm(500, "EngineCore died at http://10.0.0.7:8000/")),
        *(502, "upstream_error", "worker_failed"),
    ),
    "a proxy without an engine": (
        http_answer(b"<html>bad gateway</html>", status=b"502 Bad Gateway", content_type=b"text/html"),
        *(502, "upstream_error", "worker_failed"),
    ),
    "a proxy that lost patience": (
        http_answer(b"", status=b"504 Gateway Timeout"),
        *(504, "upstream_error", "worker_timeout"),
    ),
    "a redirect": (
        http_answer(b"", status=b"307 Temporary Redirect", more=b"location: http://10.0.0.7:8000/\r\n"),
        *(502, "upstream_error", "worker_failed"),
    ),
    "an enormous head": (
        http_answer(b"{}", more=b"x-large: " + b"x" * 200_000 + b"\r\n"),
        *(502, "upstream_error", "worker_broke"),
    ),
    "two lengths": (
        http_answer(b"{}", more=b"content-length: 5\r\n"),
        *(502, "upstream_error", "worker_broke"),
    ),
    "not even HTTP": (b"220 smtp.example.com ESMTP\r\n", *(502, "upstream_error", "worker_broke")),
    "an error in the first event": (
        http_stream(b'data: {"error": {"message": "busy", "type": "Service Unavailable", "code": 503}}\n\n'),
        *(503, "overloaded_error", "overloaded"),
    ),
    "a refusal in the first event": (
        http_stream(b'data: {"error": {"message": "bad top_k", "type": "BadRequestError", "code": 400}}\n\n'),
        *(400, "invalid_request_error", None),
    ),
    "a stream without events": (http_stream(), *(502, "upstream_error", "worker_broke")),
    "a stream of comments": (http_stream(b": hello\n\n", b": bye\n\n"), *(502, "upstream_error", "worker_broke")),
}

# A stream that is over for everybody but HTTP: its last chunk is missing.
DAWDLING = http_stream(
    b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
).removesuffix(b"0\r\n\r\n")

# Comments without end, and without an event.
CHATTY = http_stream(*[b": still here\n\n" * 1000] * 20).removesuffix(b"0\r\n\r\n")


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


@pytest.fixture(scope="module")
def gateway(worker: LiveWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    scripts = {name: script for name, (script, *_) in ANSWERS.items()}
    with ScriptedWorker(**scripts, dawdling=DAWDLING, chatty=CHATTY) as scripted:
        written = configuration(
            [worker_entry("w0", worker.url), worker_entry("s0", scripted.url, serves="odd@v1", serves_as="tiny@v1")],
            models={
                "tiny": {"context": 32768, "versions": {"v1": {}}},
                "odd": {"context": 32768, "versions": {"v1": {}}},
            },
            routes=[
                {"name": "hasty", "match": {"model": "hasty"}, "candidates": ["tiny"], "timeout": HASTY},
                {"name": "odd", "match": {"model": "hasty-odd"}, "candidates": ["odd"], "timeout": HASTY},
            ],
        )
        with GatewayProcess(tmp_path_factory.mktemp("faults"), written) as gateway:
            yield gateway


@pytest.fixture
def http(gateway: GatewayProcess) -> Iterator[httpx2.Client]:
    """A fault may have cost the worker its place until the next probe: that is what is waited for."""
    gateway.wait_up()
    with gateway.client() as client:
        yield client


def ask(http: httpx2.Client, path: str = "/v1/chat/completions", model: str = "tiny", **fields: Any) -> httpx2.Response:
    return http.post(path, json={"model": model, **ENDPOINTS[path], **fields})


# Before the first byte


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_worker_answers(name: str, stream: bool, http: httpx2.Client, gateway: GatewayProcess) -> None:
    _, status, kind, code = ANSWERS[name]
    answer = ask(http, model="odd", script=name, stream=stream)
    error = error_of(answer)
    assert (answer.status_code, error["type"], error["code"]) == (status, kind, code)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert (answer.headers.get("x-should-retry") == "false") == (status < 500)
    assert answer.headers["x-tollgate-worker"] == "s0"
    assert answer.headers["x-tollgate-attempts"] == "1"
    assert set(answer.headers) <= OURS
    assert "10.0.0.7" not in answer.text
    line = gateway.request_line(request_id(answer))
    assert (line["outcome"], line["status"]) == ("rejected" if status < 500 else "failed", status)
    assert (line["prompt_tokens"], line["output_tokens"], line["cost_usd"]) == (0, 0, 0)


def test_a_refusal_is_in_the_engines_own_words(http: httpx2.Client) -> None:
    error = error_of(ask(http, model="odd", script="a bad parameter"))
    assert (error["message"], error["param"]) == ("top_k must be -1 or at least 1", "top_k")


def test_the_engines_words_about_its_own_failure_are_in_the_log(http: httpx2.Client, gateway: GatewayProcess) -> None:
    answer = ask(http, model="odd", script="a dead engine")
    assert "EngineCore" not in answer.text
    assert gateway.request_line(request_id(answer))["error"]["notes"] == ["EngineCore died at <address>"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"fault": "hang_up"}, "worker_unreachable"),
        ({"fault": "reset"}, "worker_unreachable"),
        ({"fault": "garbage"}, "worker_broke"),
        ({"fault": "die"}, "worker_broke"),
    ],
)
def test_an_answer_that_does_not_come(stream: bool, wish: dict[str, Any], code: str, http: httpx2.Client) -> None:
    answer = ask(http, stream=stream, standin=wish)
    assert (answer.status_code, error_of(answer)["code"]) == (502, code)
    assert "x-should-retry" not in answer.headers


def test_a_document_that_is_cut_short(http: httpx2.Client) -> None:
    answer = ask(http, standin={"fault": "short_body"})
    assert (answer.status_code, error_of(answer)["code"]) == (502, "worker_broke")


@pytest.mark.parametrize(
    ("wish", "status", "code"),
    [
        ({"fault": "half_close"}, 502, "worker_broke"),
        ({"fault": "bad_chunk"}, 502, "worker_broke"),
        ({"fault": "error_frame", "status": 503}, 503, "overloaded"),
        ({"fault": "error_frame", "status": 500}, 502, "worker_failed"),
    ],
)
def test_a_stream_that_does_not_begin(wish: dict[str, Any], status: int, code: str, http: httpx2.Client) -> None:
    answer = ask(http, stream=True, standin=wish)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)


def test_patience_ends(http: httpx2.Client) -> None:
    """All at the same time, so that the test waits only once."""
    slow: list[dict[str, Any]] = [
        {"standin": {"fault": "silent"}},
        {"standin": {"fault": "stuck"}},
        {"standin": {"fault": "trickle", "pace": 0.1}},  # never idle, and never done
        {"standin": {"header_delay": 60}},
        {"stream": True, "standin": {"fault": "silent"}},
        {"stream": True, "standin": {"fault": "stuck"}},
        {"stream": True, "standin": {"first_token_delay": 60}},
    ]
    with ThreadPoolExecutor(len(slow)) as pool:
        answers = list(pool.map(lambda fields: ask(http, model="hasty", **fields), slow))
    for answer in answers:
        assert (answer.status_code, error_of(answer)["code"]) == (504, "worker_timeout")
        assert answer.headers["x-tollgate-route"] == "hasty"


def test_a_document_may_take_longer_than_a_first_token(http: httpx2.Client) -> None:
    """Its first byte comes when its last token is done: only `total` bounds that."""
    answer = ask(http, model="hasty", standin={"header_delay": 1.3})
    assert answer.status_code == 200


def test_a_document_longer_than_it_says_ends_where_it_says(http: httpx2.Client, gateway: GatewayProcess) -> None:
    answer = ask(http, standin={"fault": "long_body"})
    assert answer.status_code == 200
    assert len(answer.content) == int(answer.headers["content-length"])
    assert ask(http).status_code == 200  # what came after it was nobody's answer


def test_a_connection_that_went_stale_is_no_failure(http: httpx2.Client, gateway: GatewayProcess) -> None:
    for _ in range(3):
        answer = ask(http, standin={"fault": "close_after"})
        assert (answer.status_code, answer.headers["x-tollgate-attempts"]) == (200, "1")


# After the first byte


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize(
    "wish",
    [
        {"fault": "die"},
        {"fault": "reset"},
        {"fault": "half_close"},
        {"fault": "bad_chunk"},
    ],
)
def test_a_stream_that_breaks_ends_with_an_error_event(
    path: str, wish: dict[str, Any], http: httpx2.Client, gateway: GatewayProcess
) -> None:
    answer = ask(http, path, stream=True, standin={**wish, "after": 7, "pace": 0.03, "tokens": 50})
    assert answer.status_code == 200
    *passed, (kind, last) = events(answer.content)
    assert len(passed) >= 5
    document = orjson.loads(last)
    assert checked(document["error"])["code"] == "worker_broke"
    assert (kind, document.get("type")) == (("error", "error") if path in NAMED else ("", None))
    assert b"[DONE]" not in answer.content
    assert b"message_stop" not in answer.content
    assert b"response.completed" not in answer.content
    (row,) = gateway.rows(request_id(answer))
    assert (row["outcome"], row["status"], row["estimated"]) == ("broken", 200, 1)
    assert row["prompt_tokens"] > 0
    assert 3 <= row["output_tokens"] <= 8
    assert row["cost_nanousd"] > 0
    line = gateway.request_line(request_id(answer))
    assert (line["outcome"], line["error"]["code"]) == ("broken", "worker_broke")


def test_a_stream_that_stalls_ends_with_an_error_event(http: httpx2.Client, gateway: GatewayProcess) -> None:
    answer = ask(http, model="hasty", stream=True, standin={"fault": "stuck", "after": 5, "pace": 0.01})
    assert orjson.loads(events(answer.content)[-1][1])["error"]["code"] == "worker_timeout"
    assert gateway.rows(request_id(answer))[0]["outcome"] == "broken"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_an_error_that_the_engine_puts_into_its_stream(path: str, http: httpx2.Client, gateway: GatewayProcess) -> None:
    wish = {"fault": "error_frame", "after": 8, "pace": 0.05, "status": 500}
    answer = ask(http, path, stream=True, standin=wish)
    assert checked(orjson.loads(events(answer.content)[-1][1])["error"])["type"] == "upstream_error"
    assert b"[DONE]" not in answer.content
    assert gateway.rows(request_id(answer))[0]["outcome"] == "broken"


def test_keep_alive_comments_pass_and_keep_the_stream_alive(http: httpx2.Client) -> None:
    wish = {"pace": 1.5, "keep_alive": 0.2, "tokens": 2}
    answer = ask(http, model="hasty", stream=True, standin=wish)
    assert answer.content.count(b": keep-alive\n\n") >= 3
    assert events(answer.content)[-1] == ("", b"[DONE]")


def test_keep_alive_comments_are_no_first_token(http: httpx2.Client, gateway: GatewayProcess) -> None:
    wish = {"first_token_delay": 30.0, "keep_alive": 0.1}
    answer = ask(http, model="hasty", stream=True, standin=wish)
    assert (answer.status_code, error_of(answer)["code"]) == (504, "worker_timeout")
    (row,) = gateway.rows(request_id(answer))
    assert row["duration_seconds"] < 10


def test_a_worker_that_sends_nothing_but_comments_is_given_up(http: httpx2.Client) -> None:
    answer = http.post("/v1/chat/completions", json={"model": "hasty-odd", "script": "chatty", "stream": True})
    assert (answer.status_code, error_of(answer)["code"]) == (502, "worker_broke")


def test_a_client_has_its_answer_when_its_worker_has_yet_to_close(http: httpx2.Client, gateway: GatewayProcess) -> None:
    """It may leave then, and that is no abort."""
    aborts = gateway.metric("tollgate_aborts_total")
    body = orjson.dumps({"model": "hasty-odd", "script": "dawdling", "stream": True})
    with RawClient(gateway.port) as client:
        client.send(post("/v1/chat/completions", body, f"authorization: Bearer {KEY}"))
        answer = client.answer()
    assert answer.complete
    assert answer.body.endswith(b"data: [DONE]\n\n")
    (row,) = gateway.rows(answer.headers["x-request-id"])
    assert (row["outcome"], row["estimated"], row["prompt_tokens"], row["output_tokens"]) == ("ok", 0, 5, 2)
    assert gateway.request_line(answer.headers["x-request-id"])["outcome"] == "ok"
    assert gateway.metric("tollgate_aborts_total") == aborts


def test_nothing_stays_in_flight(http: httpx2.Client, gateway: GatewayProcess) -> None:
    ask(http, stream=True, standin={"fault": "die", "after": 3})
    gateway.wait_up()
    assert gateway.metric("tollgate_worker_inflight") == 0
    assert gateway.metric("tollgate_worker_pending_tokens") == 0
