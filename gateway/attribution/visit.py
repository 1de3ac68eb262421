"""An attempt as the engine had it."""

from __future__ import annotations

from typing import NamedTuple

from gateway.attribution.model import Coefficients

WHOLE = 0.98  # share of an answer's time: a first token that comes later came with all the others

MOMENT = 1e-5  # seconds: what is shorter happens at once


class Visit(NamedTuple):
    """`line` and `label` are the ledger's numbers. Times are Unix seconds.

    `first` is when its first token came, as far as the gateway could see; where an answer came whole, `whole` is true
    and it is an estimate.
    """

    line: int
    label: int
    tenant: str
    opened: float
    first: float
    end: float
    whole: bool
    prompt: int
    cached: int
    output: int


def visit_of(
    line: int,
    label: int,
    tenant: str,
    opened: float,
    ttft: float | None,
    duration: float,
    prompt: int,
    cached: int,
    output: int,
    c: Coefficients,
) -> Visit:
    """Numbers that can not be (a prompt shorter than its cached part, an end before the beginning) are put right."""
    prompt, output = max(prompt, 0), max(output, 0)
    cached = min(max(cached, 0), prompt)
    duration = duration if duration > MOMENT else 0.0
    whole = output > 1 and (ttft is None or ttft >= WHOLE * duration)
    if whole:
        new, after = prompt - cached, output - 1
        prefill = c.a0 + c.a1 * new + c.a2 * new * (cached + new / 2)
        decode = after * (c.a0 + c.a3 + c.a4 * (prompt + after / 2))
        ttft = duration * prefill / (prefill + decode) if prefill + decode else 0.0
    elif output <= 1 or ttft is None:
        ttft = duration
    ttft = min(ttft, duration) if ttft > MOMENT else 0.0
    end = opened + duration
    first = end if duration - ttft <= MOMENT else opened + ttft
    return Visit(line, label, tenant, opened, first, end, whole, prompt, cached, output)
