"""From a span to what the ledger keeps of it. Pure."""

from __future__ import annotations

from gateway.audit.marks import Mark
from gateway.audit.spans import Span
from gateway.ledger.audits import Audit

# Who starts an engine may try it before it is anybody's: so soon after its start, so many tokens are nobody's.
WARM_UP_SECONDS = 300.0
WARM_UP_TOKENS = 64


def exact(worker: str, span: Span, prompt: int, output: int) -> Audit:
    """Between two quiet marks; `prompt` and `output` are what new corrections add."""
    started = span.start.started
    slack = WARM_UP_TOKENS if started and span.start.at < started + WARM_UP_SECONDS else 0
    left = span.left_prompt - prompt, span.left_output - output
    return _audit(
        worker,
        span,
        exact=True,
        reason="",
        corrected=(span.corrected_prompt + prompt, span.corrected_output + output),
        drift=(_beyond(left[0], slack), _beyond(left[1], slack)) if min(left) >= 0 else left,
    )


def rough(worker: str, span: Span, reason: str) -> Audit:
    return _audit(
        worker,
        span,
        exact=False,
        reason=reason,
        corrected=(span.corrected_prompt, span.corrected_output),
        drift=(_beyond(span.left_prompt, span.slack_prompt), _beyond(span.left_output, span.slack_output)),
    )


def unobserved(worker: str, last: Mark, first: Mark, span: Span) -> Audit:
    """From the last reading of an engine to the start of the one that took its place: `span` has what the ledger has
    of it, which nothing can be held against."""
    audit = _audit(worker, span, exact=False, reason="restart", corrected=(0, 0), drift=(0, 0))
    return audit._replace(engine_prompt=0, engine_output=0, unobserved_seconds=max(0.001, first.at - last.at))


def _audit(
    worker: str, span: Span, *, exact: bool, reason: str, corrected: tuple[int, int], drift: tuple[int, int]
) -> Audit:
    start, end = span.start, span.end
    return Audit(
        worker,
        start.at,
        end.at,
        exact,
        reason,
        end.started,
        end.prompt_tokens,
        end.output_tokens,
        span.engine_prompt,
        span.engine_output,
        span.prompt_tokens,
        span.output_tokens,
        *corrected,
        span.slack_prompt,
        span.slack_output,
        *drift,
        span.estimated,
        0.0,
    )


def _beyond(left: int, slack: int) -> int:
    """The part of a difference that the slack does not cover."""
    return max(0, left - slack) + min(0, left + slack)
