"""From marks on an engine's life and the rows of the ledger to spans of time with their sums. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.audit.marks import Mark
from gateway.ledger.audits import Slot

# A page's counters are of some moment in the quarter of a second before it came (`fleet/gauge.py`), and an abort
# reaches the engine within a tenth: for so long before a mark nothing may have been under way, if it is to be quiet.
CALM_SECONDS = 0.5
PER_ESTIMATE = 64  # tokens by which an estimate in a span without quiet ends may be off, besides its own


class Span(NamedTuple):
    """What the ledger has between two marks: measured and estimated attempts, and the corrections there are of them."""

    start: Mark
    end: Mark
    prompt_tokens: int = 0
    output_tokens: int = 0
    corrected_prompt: int = 0
    corrected_output: int = 0
    estimated: int = 0  # attempts
    slack_prompt: int = 0
    slack_output: int = 0

    @property
    def engine_prompt(self) -> int:
        return self.end.prompt_tokens - self.start.prompt_tokens

    @property
    def engine_output(self) -> int:
        return self.end.output_tokens - self.start.output_tokens

    @property
    def left_prompt(self) -> int:
        """What the engine has counted and the ledger has not; negative: the other way round."""
        return self.engine_prompt - self.prompt_tokens - self.corrected_prompt

    @property
    def left_output(self) -> int:
        return self.engine_output - self.output_tokens - self.corrected_output


def quiet_spans(start: Mark | None, marks: Sequence[Mark], slots: Iterable[Slot]) -> list[Span]:
    """The spans from one quiet mark to the next, from `start` on, which is quiet; None: from the first that is.

    `slots` are those that began after `start`, by when they began. Spans without estimates become one.
    """
    spans: list[Span] = []
    calm = [mark for mark in marks if mark.calm and (start is None or mark.at > start.at)]
    current = None if start is None else Span(start, start)
    busy_until = 0.0  # the latest end of the attempts so far

    def close(mark: Mark) -> None:
        nonlocal current
        if busy_until >= mark.at - CALM_SECONDS:
            return
        if current is not None:
            done = current._replace(end=mark)
            if spans and not done.estimated and not spans[-1].estimated:
                done = _joined(spans.pop(), done)
            spans.append(done)
        current = Span(mark, mark)

    at = 0
    for slot in slots:
        while at < len(calm) and calm[at].at < slot.opened_at:
            close(calm[at])
            at += 1
        busy_until = max(busy_until, slot.ended_at)
        if current is not None:
            current = _with(current, slot)
    for mark in calm[at:]:
        close(mark)
    return spans


def rough_span(start: Mark, end: Mark, slots: Iterable[Slot]) -> Span:
    """Between two marks of which any may lie within attempts: those are counted by how far they can have been."""
    span = Span(start, end)
    prompts = outputs = 0.0
    for slot in slots:
        if slot.opened_at > end.at or slot.ended_at < start.at:
            continue
        within = start.at < slot.opened_at - CALM_SECONDS and slot.ended_at < end.at - CALM_SECONDS
        prompt, output = (1.0, 1.0) if within else _parts(slot, start.at, end.at)
        if slot.correction:
            span = _with(span, slot)
            continue
        prompts += prompt * slot.prompt_tokens
        outputs += output * slot.output_tokens
        if slot.estimated or not within:
            more = PER_ESTIMATE * slot.estimated
            certain = not slot.estimated and _is_certain(slot.first_at, start.at, end.at)
            span = span._replace(
                estimated=span.estimated + slot.estimated,
                slack_prompt=span.slack_prompt + (0 if certain else slot.prompt_tokens + more),
                slack_output=span.slack_output + slot.output_tokens + more,
            )
    return span._replace(prompt_tokens=round(prompts), output_tokens=round(outputs))


def _is_certain(first_at: float | None, *ends: float) -> bool:
    """Whether it is known on which side of each end a prompt was counted."""
    return first_at is not None and all(abs(first_at - end) > CALM_SECONDS for end in ends)


def _parts(slot: Slot, start: float, end: float) -> tuple[float, float]:
    """The shares of an attempt's prompt and output that are likely between two moments."""
    first = slot.ended_at if slot.first_at is None else slot.first_at
    prompt = 1.0 if start < first <= end else 0.0
    begins = slot.opened_at if slot.first_at is None else slot.first_at
    lasts = slot.ended_at - begins
    if lasts <= 0:
        return prompt, prompt
    return prompt, max(0.0, min(end, slot.ended_at) - max(start, begins)) / lasts


def _with(span: Span, slot: Slot) -> Span:
    if slot.correction:
        return span._replace(
            corrected_prompt=span.corrected_prompt + slot.prompt_tokens,
            corrected_output=span.corrected_output + slot.output_tokens,
        )
    return span._replace(
        prompt_tokens=span.prompt_tokens + slot.prompt_tokens,
        output_tokens=span.output_tokens + slot.output_tokens,
        estimated=span.estimated + slot.estimated,
    )


def _joined(one: Span, two: Span) -> Span:
    return one._replace(
        end=two.end,
        prompt_tokens=one.prompt_tokens + two.prompt_tokens,
        output_tokens=one.output_tokens + two.output_tokens,
        corrected_prompt=one.corrected_prompt + two.corrected_prompt,
        corrected_output=one.corrected_output + two.corrected_output,
    )
