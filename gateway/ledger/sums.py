"""What reports and budgets ask of the ledger, in the SQL that all its databases share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import isinf
from typing import NamedTuple

from gateway.ledger.rollup import HOUR
from gateway.ledger.store import Snapshot

DAY = 24 * HOUR
_EVER = 2**62  # an hour beyond all others


class Dimension(NamedTuple):
    """`expression` is SQL over the sums and their lines, `write` what becomes of its values."""

    expression: str
    write: Callable[[int], str] | None = None


def _write_day(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d")


def _write_hour(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:00Z")


# What a report may group by.
DIMENSIONS = {
    "tenant": Dimension("lines.tenant"),
    "model": Dimension("lines.model"),
    "version": Dimension("lines.version"),
    "adapter": Dimension("lines.adapter"),
    "route": Dimension("lines.route"),
    "worker": Dimension("lines.worker"),
    "key": Dimension("lines.key_id"),
    "endpoint": Dimension("lines.endpoint"),
    "outcome": Dimension("span.outcome"),
    "day": Dimension(f"span.hour / {DAY} * {DAY}", _write_day),
    "hour": Dimension("span.hour", _write_hour),
}

_SPAN = f"""
    WITH span AS (
        SELECT hour, line, outcome, requests, attempts, prompt_tokens, cached_tokens, output_tokens, gpu_ns,
            cost_nanousd
        FROM rollups WHERE hour >= :first AND hour < :last
        UNION ALL
        SELECT CAST(FLOOR(started_at / {HOUR}) AS BIGINT) * {HOUR}, line, outcome,
            CASE WHEN correction = 0 THEN final ELSE 0 END, CASE WHEN correction = 0 THEN 1 ELSE 0 END,
            prompt_tokens, cached_tokens, output_tokens, gpu_ns, cost_nanousd
        FROM entries
        WHERE (started_at >= :start AND started_at < :head) OR (started_at >= :tail AND started_at < :end)
    )
"""


def sums(ledger: Snapshot, by: Sequence[str], since: float | None, until: float | None) -> list[tuple[str | int, ...]]:
    """For each combination of the DIMENSIONS `by`: those, then requests, attempts, prompt, cached and output tokens,
    nanoseconds of worker time and nano-USD. Full hours come from the rollups, what a span begins or ends with from the
    entries themselves.
    """
    dimensions = [DIMENSIONS[name] for name in by]
    names = "".join(f"{dimension.expression}, " for dimension in dimensions)
    places = ", ".join(str(place) for place in range(1, len(by) + 1))
    grouping = f"GROUP BY {places} ORDER BY {places}" if by else "HAVING COUNT(*) > 0"
    query = f"""
        {_SPAN}
        SELECT {names}
            SUM(requests), SUM(attempts), SUM(prompt_tokens), SUM(cached_tokens), SUM(output_tokens), SUM(gpu_ns),
            SUM(cost_nanousd)
        FROM span JOIN lines ON lines.id = span.line
        {grouping}
    """
    rows = ledger.rows(query, _bounds(since, until))
    writers = [(place, dimension.write) for place, dimension in enumerate(dimensions) if dimension.write is not None]
    if not writers:
        return rows
    written: list[tuple[str | int, ...]] = []
    for row in rows:
        cells = list(row)
        for place, write in writers:
            cells[place] = write(cells[place])
        written.append(tuple(cells))
    return written


def spent(ledger: Snapshot, tenant: str, since: float) -> int:
    """Nano-USD of a tenant's requests that arrived at or after `since`, Unix seconds on a full hour."""
    rows = ledger.rows(
        "SELECT COALESCE(SUM(cost_nanousd), 0) FROM rollups "
        "WHERE hour >= :since AND line IN (SELECT id FROM lines WHERE tenant = :tenant)",
        {"since": int(since), "tenant": tenant},
    )
    return int(rows[0][0])


def spent_by_tenant(ledger: Snapshot, since: float) -> dict[str, int]:
    """The same of every tenant that had any."""
    rows = ledger.rows(
        "SELECT lines.tenant, SUM(one.cost) FROM "
        "(SELECT line, SUM(cost_nanousd) AS cost FROM rollups WHERE hour >= :since GROUP BY line) AS one "
        "JOIN lines ON lines.id = one.line GROUP BY lines.tenant",
        {"since": int(since)},
    )
    return {tenant: int(cost) for tenant, cost in rows}


def heard_from(ledger: Snapshot, workers: Sequence[str], since: float) -> dict[str, float]:
    """The time of the last reading of any of the `workers` by each process that made one since then. A process's
    records come into the ledger in their order: what it recorded before is there as well."""
    found: dict[str, float] = {}
    for worker in workers:
        rows = ledger.rows(
            "SELECT source, MAX(at) FROM readings WHERE worker = :worker AND at >= :since GROUP BY source",
            {"worker": worker, "since": since},
        )
        for source, at in rows:
            found[source] = max(at, found.get(source, 0.0))
    return found


def _bounds(since: float | None, until: float | None) -> dict[str, float | int]:
    """Full hours from `first` up to `last`; from `start` to `head` and from `tail` to `end` single entries."""
    start = float("-inf") if since is None else since
    end = float("inf") if until is None else until
    first = start if isinf(start) else -(-start // HOUR) * HOUR
    last = end if isinf(end) else end // HOUR * HOUR
    if first >= last:
        first = last = end
    return {
        "first": _hour(first),
        "last": _hour(last),
        "start": start,
        "head": min(first, end),
        "tail": max(last, start),
        "end": end,
    }


def _hour(second: float) -> int:
    if isinf(second):
        return _EVER if second > 0 else -_EVER
    return int(second)
