"""Every attempt of a span of time, and every correction of one, as rows."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.ledger.export.columns import Column, Row
from gateway.ledger.store import Snapshot
from gateway.ledger.sums import Span

COLUMNS = (
    Column("attempt_id", "text"),
    Column("request_id", "text"),
    Column("number", "count"),
    Column("correction", "count"),  # above 0: the differences to what the row before said
    Column("started_at", "time"),
    Column("opened_at", "time"),
    Column("tenant", "text"),
    Column("key_id", "text"),
    Column("endpoint", "text"),
    Column("model_asked", "text"),
    Column("model", "text"),
    Column("version", "text"),
    Column("adapter", "text"),
    Column("route", "text"),
    Column("worker", "text"),
    Column("outcome", "text"),
    Column("status", "count"),
    Column("prompt_tokens", "count"),
    Column("cached_tokens", "count"),
    Column("output_tokens", "count"),
    Column("estimated", "flag"),
    Column("final", "flag"),
    Column("ttft_seconds", "number"),
    Column("duration_seconds", "number"),
    Column("gpu_ns", "count"),
    Column("cost_nanousd", "count"),
    Column("cost_basis", "text"),
    Column("user", "text"),
    Column("tags", "text"),
    Column("choices", "count"),  # asked for of each prompt, whose tokens are counted once
)
_FLAGS = tuple(place for place, column in enumerate(COLUMNS) if column.kind == "flag")
_SELECTED = ", ".join("attempts.user" if column.name == "user" else column.name for column in COLUMNS)


def rows(ledger: Snapshot, within: Span) -> Iterator[Row]:
    """In the order of arrival."""
    for row in ledger.stream(
        f"""
        SELECT {_SELECTED} FROM attempts WHERE started_at >= :start AND started_at < :end
        ORDER BY started_at, request_id, number, correction
        """,
        {"start": within.start, "end": within.end},
    ):
        cells = list(row)
        for place in _FLAGS:
            cells[place] = bool(cells[place])
        yield tuple(cells)


def count(ledger: Snapshot, within: Span) -> int:
    """About how many rows there are: attempts of the hours that a span touches."""
    found = ledger.rows(
        "SELECT SUM(attempts) FROM rollups WHERE hour > :start AND hour < :end",
        {"start": int(within.start) - 3600, "end": int(within.end) + 1},
    )
    return int(found[0][0] or 0)
