"""One worker's audit: from what the ledger has to what there is to say of it and to correct in it. Writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from gateway.audit import verdict
from gateway.audit.correct import corrections
from gateway.audit.marks import Mark, lives, marks
from gateway.audit.spans import Span, quiet_spans, rough_span
from gateway.ledger import audits
from gateway.ledger.audits import Audit
from gateway.ledger.record import Attempt, Reading
from gateway.ledger.store import Snapshot
from gateway.table import Price

FARTHEST_SECONDS = 7 * 86_400.0  # back to readings, where no audit has been since
LONGEST_SECONDS = 3_600.0  # of an attempt that may be under way at a mark that is not quiet


class Findings(NamedTuple):
    audits: list[Audit]
    corrections: list[Attempt]


class Terms(NamedTuple):
    """`through` and `own` are those of `marks.marks`; `rough` is whether spans that have no quiet end are wanted."""

    now: float
    through: float
    own: Collection[str] | None
    rough: bool
    prices: Mapping[str, Price]


def examine(ledger: Snapshot, worker: str, terms: Terms, more: Sequence[Reading] = ()) -> Findings:
    """What happened since the last exact audit; `more` are readings that are not in the ledger."""
    last = audits.last_exact(ledger, worker)
    start = None if last is None else _end_of(last)
    since = terms.now - FARTHEST_SECONDS
    if start is not None and start.at < since:
        start = None
    readings = sorted([*audits.readings(ledger, worker, since if start is None else start.at), *more])
    later = [
        mark
        for mark in marks(readings, terms.now, through=terms.through, own=terms.own)
        if start is None or mark.at > start.at
    ]
    engines = lives(later if start is None else [start, *later])
    found = Findings([], [])
    for number, life in enumerate(engines):
        following = engines[number + 1] if number + 1 < len(engines) else None
        begin = start if number == 0 else _begin(life[0], engines[number - 1][-1].at)
        _life(ledger, worker, terms, life, begin, following, found)
    return found


def _life(
    ledger: Snapshot,
    worker: str,
    terms: Terms,
    life: Sequence[Mark],
    begin: Mark | None,
    following: Sequence[Mark] | None,
    found: Findings,
) -> None:
    """Of one engine, from its quiet `begin` where that is known to the `following` one where it has ended."""
    first = life[0] if begin is None else begin
    successor = None if following is None else _begin(following[0], life[-1].at) or following[0]
    until = life[-1].at if successor is None else successor.at
    after = first.at - LONGEST_SECONDS if begin is None else first.at
    spans = quiet_spans(begin, life, audits.slots(ledger, worker, after, until))
    for span in spans:
        prompt = output = 0
        if span.estimated and (span.left_prompt or span.left_output):
            rows = audits.estimated(ledger, worker, span.start.at, span.end.at)
            more = corrections(span.left_prompt, span.left_output, rows, terms.prices)
            prompt = sum(row.prompt_tokens * row.choices for row in more)
            output = sum(row.output_tokens for row in more)
            found.corrections.extend(more)
        found.audits.append(verdict.exact(worker, span, prompt, output))
    quiet = spans[-1].end if spans else first
    if quiet.at < life[-1].at and (following is not None or (terms.rough and not spans)):
        slots = audits.slots(ledger, worker, quiet.at - LONGEST_SECONDS, life[-1].at)
        reason = "busy" if following is None else "restart"
        found.audits.append(verdict.rough(worker, rough_span(quiet, life[-1], slots), reason))
    if successor is not None:
        gap = Span(life[-1], successor)
        for slot in audits.slots(ledger, worker, gap.start.at, gap.end.at):
            if not slot.correction:
                gap = gap._replace(
                    prompt_tokens=gap.prompt_tokens + slot.prompt_tokens,
                    output_tokens=gap.output_tokens + slot.output_tokens,
                )
        found.audits.append(verdict.unobserved(worker, gap.start, gap.end, gap))


def _end_of(audit: Audit) -> Mark:
    return Mark(audit.ended_at, audit.engine_started, audit.prompt_counter, audit.output_counter, True)


def _begin(mark: Mark, after: float) -> Mark | None:
    """An engine's counters at its start, where that is known: all 0, and nothing under way. By our clocks not before
    the last that was seen of the one before."""
    return Mark(max(mark.started, after), mark.started, 0, 0, True) if mark.started else None
