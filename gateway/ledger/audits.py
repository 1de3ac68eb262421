"""What audits found, and what they ask of the ledger, in the SQL that all its databases share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.ledger.record import Attempt, Label, Line, Reading
from gateway.ledger.store import Change, Snapshot

LAST = -1  # `busy_ns` of the last reading that a process makes of a worker: it has said all that it ever will


class Audit(NamedTuple):
    """One worker's tokens over one span of time, by its own counters and by the ledger.

    engine = ledger + corrected + drift, where `exact` (but for the few tokens that an engine is tried with when it
    starts). Where not, attempts ran on at an end of the span and are counted
    by how far they can have been: `slack` is how far off that may be, and only what lies beyond is drift.
    Prompts are counted as engines count them: once for each choice that was asked for.
    """

    worker: str
    started_at: float  # Unix seconds
    ended_at: float
    exact: bool
    reason: str  # "" when exact, "busy": never nothing under way; "restart": the engine's counters began anew
    engine_started: float  # as of the counters, 0 where unknown
    prompt_counter: int  # at the end
    output_counter: int
    engine_prompt: int  # over the span
    engine_output: int
    ledger_prompt: int  # without corrections
    ledger_output: int
    corrected_prompt: int
    corrected_output: int
    slack_prompt: int
    slack_output: int
    drift_prompt: int  # the engine's surplus that nothing in the ledger explains; negative: the ledger's
    drift_output: int
    estimated: int  # attempts
    unobserved_seconds: float  # of which nobody read the counters: they went with the engine


class Slot(NamedTuple):
    """What one row of the ledger holds of a worker. Times are Unix seconds."""

    opened_at: float
    ended_at: float
    first_at: float | None  # its first token
    estimated: bool
    correction: int
    prompt_tokens: int  # as an engine counts them
    output_tokens: int


_COLUMNS = ", ".join(Audit._fields)
_AUDIT = f"""
    INSERT INTO audits ({_COLUMNS}) VALUES ({", ".join(f":{name}" for name in Audit._fields)}) ON CONFLICT DO NOTHING
"""
_READING = ", ".join(f"readings.{name}" for name in Reading._fields)
_ATTEMPT = ", ".join(
    [
        *(f"entries.{name}" for name in Attempt._fields[:3]),
        *(f"lines.{name}" for name in Line._fields),
        *(f"labels.{name}" for name in Label._fields),
        *(f"entries.{name}" for name in Attempt._fields[5:]),
    ]
)


def add(change: Change, audits: Sequence[Audit]) -> None:
    change.add(_AUDIT, [{**one._asdict(), "exact": int(one.exact)} for one in audits])


def workers(ledger: Snapshot) -> list[str]:
    """Those that somebody has read."""
    found: list[str] = []
    while True:  # from one name to the next in the index: there are millions of readings, and few workers
        rows = ledger.rows(
            "SELECT MIN(worker) FROM readings WHERE worker > :last", {"last": found[-1] if found else ""}
        )
        if rows[0][0] is None:
            return found
        found.append(str(rows[0][0]))


def sources(ledger: Snapshot, worker: str) -> set[str]:
    """The processes that have read it."""
    rows = ledger.rows("SELECT DISTINCT source FROM readings WHERE worker = :worker", {"worker": worker})
    return {str(source) for (source,) in rows}


def last_exact(ledger: Snapshot, worker: str) -> Audit | None:
    rows = ledger.rows(
        f"SELECT {_COLUMNS} FROM audits WHERE worker = :worker AND exact = 1 ORDER BY ended_at DESC LIMIT 1",
        {"worker": worker},
    )
    return _audit(rows[0]) if rows else None


def last_end(ledger: Snapshot, worker: str) -> float | None:
    """Of any audit, exact or not."""
    ((end,),) = ledger.rows("SELECT MAX(ended_at) FROM audits WHERE worker = :worker", {"worker": worker})
    return None if end is None else float(end)


def since(ledger: Snapshot, start: float) -> list[Audit]:
    """Those that ended after `start`, by worker and time."""
    query = f"SELECT {_COLUMNS} FROM audits WHERE ended_at > :start ORDER BY worker, ended_at, exact"
    return [_audit(row) for row in ledger.rows(query, {"start": start})]


def readings(ledger: Snapshot, worker: str, start: float) -> Iterator[Reading]:
    """From `start` on, by time."""
    query = f"SELECT {_READING} FROM readings WHERE worker = :worker AND at >= :start ORDER BY at, source"
    for row in ledger.stream(query, {"worker": worker, "start": start}):
        yield Reading(*row)._replace(up=bool(row[6]))


def last_calm(ledger: Snapshot, worker: str, after: float, until: float) -> float | None:
    """When a process last read the engine's counters, in (after, until], and knew of nothing that it had to do."""
    rows = ledger.rows(
        "SELECT at FROM readings WHERE worker = :worker AND at > :after AND at <= :until AND in_flight = 0 "
        "AND running <= 0 AND waiting <= 0 AND prompt_tokens >= 0 ORDER BY at DESC LIMIT 1",
        {"worker": worker, "after": after, "until": until},
    )
    return float(rows[0][0]) if rows else None


def is_busy(ledger: Snapshot, worker: str, after: float, start: float, end: float) -> bool:
    """Whether an attempt was under way between `start` and `end`, of those that began after `after`."""
    query = """
        SELECT 1 FROM entries JOIN lines ON lines.id = entries.line
        WHERE entries.opened_at > :after AND entries.opened_at <= :end AND lines.worker = :worker
            AND entries.opened_at + entries.duration_seconds >= :start
        ORDER BY entries.opened_at DESC LIMIT 1
    """
    return bool(ledger.rows(query, {"worker": worker, "after": after, "start": start, "end": end}))


def slots(ledger: Snapshot, worker: str, after: float, until: float) -> Iterator[Slot]:
    """Of the attempts that began in (after, until], by when they began; corrections among them."""
    query = """
        SELECT entries.opened_at, entries.duration_seconds, entries.ttft_seconds, entries.estimated, entries.correction,
            entries.prompt_tokens, entries.output_tokens, entries.choices
        FROM entries JOIN lines ON lines.id = entries.line
        WHERE entries.opened_at > :after AND entries.opened_at <= :until AND lines.worker = :worker
        ORDER BY entries.opened_at
    """
    values = {"worker": worker, "after": after, "until": until}
    for opened, duration, ttft, estimated, correction, prompt, output, choices in ledger.stream(query, values):
        first = None if ttft is None else opened + ttft
        yield Slot(opened, opened + duration, first, bool(estimated), correction, prompt * choices, output)


def estimated(ledger: Snapshot, worker: str, after: float, until: float) -> list[Attempt]:
    """The attempts that began in (after, until] and whose engine never said what they came to, with the corrections
    there are of them, by request."""
    query = f"""
        SELECT {_ATTEMPT}
        FROM entries JOIN lines ON lines.id = entries.line JOIN labels ON labels.id = entries.label
        WHERE entries.opened_at > :after AND entries.opened_at <= :until AND lines.worker = :worker
            AND entries.estimated = 1
        ORDER BY entries.request_id, entries.number, entries.correction
    """
    rows = ledger.stream(query, {"worker": worker, "after": after, "until": until})
    return [_attempt(row) for row in rows]


def _audit(row: Sequence[object]) -> Audit:
    return Audit._make(row)._replace(exact=bool(row[3]))


def _attempt(row: Sequence[object]) -> Attempt:
    names = 3 + len(Line._fields)
    rest = names + len(Label._fields)
    made = Attempt._make((*row[:3], Line._make(row[3:names]), Label._make(row[names:rest]), *row[rest:]))
    return made._replace(estimated=bool(made.estimated), final=bool(made.final))
