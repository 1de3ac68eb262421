"""One OpenTelemetry span per request, in the GenAI conventions, when `telemetry.otlp_endpoint` is set.

A span is made whole at the end of its request from what the settlement knows, so nothing is added to the hot path, and
exported from a bounded queue by a thread: a collector that is away costs spans and nothing else.
"""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

from gateway.protocol.traceparent import read_traceparent
from gateway.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

_OPERATIONS = {
    "chat.completions": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}


class SpansUnavailable(Exception):
    """The message says what to install."""


class Spans:
    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("tollgate")

    def request(self, trace: Trace, *, duration: float, status: int, tokens: tuple[int, int, int], cost: int) -> None:
        """Records a finished request; `tokens` are prompt, cached and output, `cost` is nano-USD."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        start = int(trace.started_at * 1e9)
        admitted, dispatch, request = trace.admitted, trace.dispatch, trace.request
        endpoint = trace.exchange.path if request is None else request.endpoint.name
        operation = _OPERATIONS.get(endpoint, endpoint) or "unknown"
        asked = "" if request is None else request.model
        attributes: dict[str, str | int | float] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "tollgate",
            "gen_ai.request.model": asked,
            "gen_ai.usage.input_tokens": tokens[0],
            "gen_ai.usage.output_tokens": tokens[2],
            "http.response.status_code": status,
            "tollgate.request_id": trace.id,
            "tollgate.tenant": "" if trace.key is None else trace.key.tenant.name,
            "tollgate.cached_tokens": tokens[1],
            "tollgate.attempts": trace.asked,
            "tollgate.cache": trace.cache,
            "tollgate.cost_usd": cost / 1e9,
        }
        if admitted is not None:
            attributes["tollgate.route"] = admitted.plan.route.name
        if dispatch is not None:
            target = dispatch.step.target
            attributes["gen_ai.response.model"] = f"{target.model}@{target.version}"
            attributes["tollgate.worker"] = dispatch.backend.worker.name
        if trace.error is not None:
            attributes["error.type"] = trace.error.code or trace.error.type
        span = self._tracer.start_span(
            f"{operation} {asked}".rstrip(),
            context=_parent(trace.exchange.header(b"traceparent")),
            kind=SpanKind.SERVER,
            start_time=start,
            attributes=attributes,
        )
        if trace.error is not None and trace.error.blame != "caller":
            span.set_status(Status(StatusCode.ERROR, trace.error.message))
        span.end(start + int(duration * 1e9))

    def close(self, seconds: float = 5.0) -> bool:
        """Exports what is waiting, for at most that long; whether that was enough. Blocks the caller.

        The SDK itself has no such bound: it goes on on a thread that ends with the process.
        """
        thread = Thread(target=self._provider.shutdown, name="spans", daemon=True)
        thread.start()
        thread.join(seconds)
        return not thread.is_alive()


def open_spans(endpoint: str) -> Spans:
    """Exports to an OTLP/HTTP collector at `endpoint`, such as http://127.0.0.1:4318."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise SpansUnavailable(
            "`telemetry.otlp_endpoint` needs the OpenTelemetry SDK: pip install 'tollgate[otel]', or remove the key"
        ) from None
    url = endpoint if endpoint.rstrip("/").endswith("/v1/traces") else endpoint.rstrip("/") + "/v1/traces"
    provider = TracerProvider(resource=Resource.create({"service.name": "tollgate"}), shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=5), max_queue_size=8192, export_timeout_millis=5000)
    )
    return Spans(provider)


def _parent(header: bytes | None) -> Context | None:
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    parent = read_traceparent(header)
    if parent is None:
        return None
    context = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=TraceFlags(parent.flags))
    return set_span_in_context(NonRecordingSpan(context))
