"""Spans as the SDK gets them, from what the settlement knows."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from gateway.errors import GatewayError, NotFound, WorkerFailed
from gateway.spans import Spans, SpansUnavailable, open_spans
from gateway.trace import Trace
from tests.unit.gateway.stories import Transport, backend, exchange, trace

PARENT = b"00-" + b"a1" * 16 + b"-" + b"b2" * 8 + b"-01"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    yield exporter
    exporter.shutdown()


def recorded(
    exporter: InMemorySpanExporter,
    *,
    path: str = "/v1/chat/completions",
    header: bytes | None = None,
    error: GatewayError | None = None,
    admitted: bool = True,
    **fields: Any,
) -> ReadableSpan:
    async def run() -> Trace:
        of = exchange(Transport(), path, [(b"traceparent", header)] if header else [])
        made = trace(of, on=backend(), **fields)
        made.error = error
        if not admitted:
            made = Trace(made.id, of, made.table, made.started_at, error=error)
        return made

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = Spans(provider)
    spans.request(asyncio.run(run()), duration=0.25, status=200, tokens=(24, 3, 16), cost=1_500)
    spans.close()
    (span,) = exporter.get_finished_spans()
    return span


def test_what_a_span_says(exporter: InMemorySpanExporter) -> None:
    span = recorded(exporter)
    assert span.name == "chat chat"
    assert span.attributes is not None
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "tollgate",
        "gen_ai.request.model": "chat",
        "gen_ai.response.model": "chat@a",
        "gen_ai.usage.input_tokens": 24,
        "gen_ai.usage.output_tokens": 16,
        "http.response.status_code": 200,
        "tollgate.request_id": "req_1",
        "tollgate.tenant": "ann",
        "tollgate.route": "direct",
        "tollgate.worker": "w0",
        "tollgate.cached_tokens": 3,
        "tollgate.attempts": 1,
        "tollgate.cache": "bypass",
        "tollgate.cost_usd": 1.5e-06,
    }
    assert span.start_time == 1_790_000_000 * 10**9
    assert span.end_time == span.start_time + 250_000_000
    assert span.status.status_code is StatusCode.UNSET


def test_a_span_belongs_to_its_callers_trace(exporter: InMemorySpanExporter) -> None:
    span = recorded(exporter, header=PARENT)
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == ("a1" * 16, "b2" * 8)
    assert span.context is not None
    assert span.context.trace_id == span.parent.trace_id


@pytest.mark.parametrize("header", [None, b"", b"nonsense", PARENT.replace(b"a1", b"00")])
def test_a_span_without_a_caller_begins_a_trace(header: bytes | None, exporter: InMemorySpanExporter) -> None:
    assert recorded(exporter, header=header).parent is None


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [(NotFound("no"), StatusCode.UNSET, "model_not_found"), (WorkerFailed("no"), StatusCode.ERROR, "worker_failed")],
)
def test_only_a_failure_of_the_service_is_an_error(
    error: GatewayError, status: StatusCode, kind: str, exporter: InMemorySpanExporter
) -> None:
    span = recorded(exporter, error=error)
    assert span.attributes is not None
    assert (span.status.status_code, span.attributes["error.type"]) == (status, kind)


def test_a_request_that_was_never_understood_has_a_span_too(exporter: InMemorySpanExporter) -> None:
    span = recorded(exporter, admitted=False, error=NotFound("no"))
    assert span.attributes is not None
    assert (span.attributes["tollgate.tenant"], span.attributes["gen_ai.request.model"]) == ("", "")
    assert "tollgate.worker" not in span.attributes


def test_without_the_sdk_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SpansUnavailable, match=r"pip install 'tollgate\[otel\]'"):
        open_spans("http://127.0.0.1:4318")
