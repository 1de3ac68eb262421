"""Spans as a collector gets them: one per request, under the caller's own trace; a collector away costs only spans."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.gateway_process import GatewayProcess, configuration
from tests.live_worker import LiveWorker
from tests.wire.answers import request_id

PATH = "/v1/chat/completions"
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "a-private-prompt"}]}
PARENT = f"00-{'a1' * 16}-{'b2' * 8}-01"


class Collector:
    """Takes OTLP over HTTP and keeps the spans."""

    def __enter__(self) -> Self:
        self.spans: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                collector.take(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(plain(resource.resource.attributes))
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)


def plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


def test_one_span_for_each_request(worker: LiveWorker, tmp_path: Path) -> None:
    with Collector() as collector:
        config = configuration({"w0": worker.url}, telemetry={"otlp_endpoint": collector.url})
        with GatewayProcess(tmp_path, config) as gateway, gateway.client() as client:
            gateway.wait_ready()
            good = client.post(PATH, json=BODY, headers={"traceparent": PARENT})
            streamed = client.post(PATH, json={**BODY, "stream": True})
            vectors = client.post("/v1/embeddings", json={"model": "tiny", "input": "hi"})
            refused = client.post(PATH, json={**BODY, "model": "nope"})
            failed = client.post(PATH, json={**BODY, "standin": {"fault": "refuse", "status": 500}})
        # What waited has been exported at the end.
        spans = {plain(span.attributes)["tollgate.request_id"]: span for span in collector.spans}
    assert len(spans) == len(collector.spans) == 5
    assert {resource["service.name"] for resource in collector.resources} == {"tollgate"}

    span = spans[request_id(good)]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == ("a1" * 16, "b2" * 8)
    assert worker.seen(request_id(good))[0].headers["traceparent"] == PARENT
    assert (span.name, span.kind, span.status.code) == ("chat gpt-4o-mini", 2, 0)
    assert span.end_time_unix_nano > span.start_time_unix_nano
    attributes = plain(span.attributes)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "tollgate",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "tiny@v1",
        "gen_ai.usage.output_tokens": 16,
        "http.response.status_code": 200,
        "tollgate.tenant": "acme",
        "tollgate.worker": "w0",
        "tollgate.route": "direct",
        "tollgate.attempts": 1,
        "tollgate.cache": "bypass",
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert attributes["gen_ai.usage.input_tokens"] > 0
    assert attributes["tollgate.cost_usd"] == pytest.approx(float(good.headers["x-tollgate-cost-usd"]))

    alone = spans[request_id(streamed)]
    assert alone.parent_span_id == b""
    assert alone.trace_id not in (b"", spans[request_id(good)].trace_id)

    assert plain(spans[request_id(vectors)].attributes)["gen_ai.operation.name"] == "embeddings"
    mistaken = spans[request_id(refused)]
    assert (mistaken.status.code, plain(mistaken.attributes)["error.type"]) == (0, "model_not_found")
    broken = spans[request_id(failed)]
    assert (broken.status.code, plain(broken.attributes)["error.type"]) == (2, "worker_failed")
    assert b"a-private-prompt" not in b"".join(span.SerializeToString() for span in collector.spans)


def test_a_collector_that_is_away_costs_spans_and_nothing_else(worker: LiveWorker, tmp_path: Path) -> None:
    with Collector() as collector:
        url = collector.url
    config = configuration({"w0": worker.url}, telemetry={"otlp_endpoint": url})
    with GatewayProcess(tmp_path, config) as gateway:
        gateway.wait_ready()
        with gateway.client() as client:
            for _ in range(20):
                assert client.post(PATH, json=BODY).status_code == 200
        assert gateway.stop() == 0
        assert [line for line in gateway.log if "traceback" in line] == []
