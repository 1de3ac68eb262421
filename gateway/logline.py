"""From what is known of a request to its line in the log, which is one JSON object.

What every line has is written as it stands there; for the rest, which few have, a dict is made.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import GatewayError, WorkerRefused
from gateway.logs import Prompts, masked, prompt_for_log
from gateway.protocol.usage import Usage
from gateway.series import Ending, Series
from gateway.spelling import digits, dumps, flag, thousandths, time_in_seconds
from gateway.table import PRIORITIES
from gateway.trace import Trace


def log_line(
    trace: Trace,
    series: Series,
    ending: Ending,
    request_id: bytes,
    usage: Usage,
    estimated: bool,
    cost: int,
    ttft: float | None,
    duration: float,
    overhead: float | None,
) -> bytes:
    """Raises `orjson.JSONEncodeError` where something is no text, as a lone surrogate."""
    request, error = trace.request, trace.error
    prompt, cached, output = usage
    cost_usd: bytes = dumps(cost / 1e9)
    return (
        b'{"time":%b,"level":%b,"event":"request","request_id":"%b",%b,%b,"prompt_tokens":%b,"cached_tokens":%b,'
        b'"output_tokens":%b,"estimated":%b,"ttft_ms":%b,"duration_ms":%b,"overhead_ms":%b,"cost_usd":%b,"config":%b%b%b}\n'
        % (
            _seconds(trace.started_at),
            b'"info"' if error is None or error.blame == "caller" else b'"warning"',
            request_id,
            series.logged,
            ending.logged,
            digits(prompt),
            digits(cached),
            digits(output),
            flag(estimated),
            b"null" if ttft is None else thousandths(_microseconds(ttft)),
            thousandths(_microseconds(duration)),
            b"null" if overhead is None else thousandths(_microseconds(overhead)),
            cost_usd,
            series.config,
            b"" if error is None and trace.ticket is None and not trace.others else _of_its_course(trace),
            b"" if request is None or request.fields is None else _of_its_body(trace, request.fields),
        )
    )


def _of_its_course(trace: Trace) -> bytes:
    """Of a request that failed, was tried again, or waited."""
    error, ticket = trace.error, trace.ticket
    fields: dict[str, object] = {}
    if error is not None:
        fields["error"] = _for_log(error, trace.table.settings.log.prompts)
    if trace.others:
        fields["other_attempts"] = [
            {"worker": one.line.worker, "outcome": one.outcome, "status": one.status} for one in trace.others
        ]
    if ticket is not None:
        fields["priority"] = PRIORITIES[ticket.claim.rank]
        expected = ticket.expected
        fields["queued_ms"] = _microseconds(trace.queued) / 1000
        fields["queue_position"] = ticket.position
        fields["queue_expected_ms"] = None if expected is None else _microseconds(expected) / 1000
    return b",%b" % _inside(fields)


def _of_its_body(trace: Trace, fields: dict[str, Any]) -> bytes:
    parameters: bytes = dumps(masked(fields))
    prompt = prompt_for_log(fields, trace.table.settings.log.prompts)
    if prompt is None:
        return b',"parameters":%b' % parameters
    return b',"parameters":%b,%b' % (parameters, _inside({"prompt": prompt}))


def _inside(fields: dict[str, object]) -> bytes:
    """An object without its braces."""
    text: bytes = dumps(fields, default=str)
    return text[1:-1]


def _for_log(error: GatewayError, prompts: Prompts) -> dict[str, object]:
    """An error with the engine's own words about it, but no prompt: an engine that refuses one may quote it."""
    fields = error.fields()
    if isinstance(error, WorkerRefused) and prompts != "full":
        fields["message"] = f"<{len(error.message)} chars>"
    notes: list[str] | None = getattr(error, "__notes__", None)
    if notes:
        fields["notes"] = notes
    return fields


def _seconds(at: float) -> bytes:
    """A time in Unix seconds: those of requests are whole milliseconds."""
    milliseconds = int(at * 1000 + 0.5)
    return time_in_seconds(milliseconds) if milliseconds / 1000 == at else dumps(at)


def _microseconds(seconds: float) -> int:
    """`round` to a number of digits takes four times as long."""
    return int(seconds * 1e6 + 0.5)
