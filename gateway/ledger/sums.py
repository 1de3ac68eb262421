"""What attempts and the bill come to, summed in the database by the numbers of lines and labels, with no name of them.

Sums by the hour are read where they do, the entries themselves only for what a span begins or ends with, and where it
is asked what clients said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any, Literal, NamedTuple

from gateway.ledger import days
from gateway.ledger.dimensions import DAY_HOURS
from gateway.ledger.money import halves, whole
from gateway.ledger.record import Label, Line
from gateway.ledger.rollup import HOUR
from gateway.ledger.store import Snapshot

EVER = HOUR << 40  # seconds; beyond all that is in a ledger


class Span(NamedTuple):
    """[start, end) in Unix seconds, and the full hours in it: [first, last), empty when they are equal.

    What is older than `pruned_before` is there as sums by the hour only.
    """

    start: float
    end: float
    first: int
    last: int
    pruned_before: int

    @property
    def edges(self) -> list[tuple[float, float]]:
        """The parts of an hour that it begins and ends with, as far as they have not been pruned."""
        return [(max(start, self.pruned_before), end) for start, end in self._parts if self.pruned_before < end]

    @property
    def lacks_entries(self) -> bool:
        """Whether a part of an hour of it has been pruned."""
        return any(start < self.pruned_before for start, _ in self._parts)

    @property
    def _parts(self) -> list[tuple[float, float]]:
        if self.first >= self.last:
            parts = [(self.start, self.end)]
        else:
            parts = [(self.start, float(self.first)), (float(self.last), self.end)]
        return [(start, end) for start, end in parts if start < end]


def span(since: float | None, until: float | None, pruned_before: int) -> Span:
    start = min(max(since or 0.0, 0.0), float(EVER))
    end = float(EVER) if until is None else min(until, float(EVER))
    first, last = int(-(-start // HOUR)) * HOUR, int(end // HOUR) * HOUR
    return Span(start, max(start, end), first, max(first, last), pruned_before)


class By(NamedTuple):
    """What sums are kept apart by, beside the line."""

    time: Literal["hour", "day"] | None
    outcome: bool
    label: bool


class Sum(NamedTuple):
    """`time` counts hours or days since 1970. What sums are not kept apart by is 0 or "".

    In the bill there is nothing but `cost`.
    """

    line: int
    time: int
    outcome: str
    label: int
    requests: int
    attempts: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    gpu_ns: int
    cost: int


_AMOUNTS = f"{halves('gpu_ns')}, {halves('cost_nanousd')}"
_TOKENS = "SUM(prompt_tokens), SUM(cached_tokens), SUM(output_tokens)"
_SUMS = f"SUM(requests), SUM(attempts), {_TOKENS}, {_AMOUNTS}"
_ENTRY_SUMS = f"""
    SUM(CASE WHEN correction = 0 THEN final ELSE 0 END), SUM(CASE WHEN correction = 0 THEN 1 ELSE 0 END), {_TOKENS},
    {_AMOUNTS}
"""


def usage(ledger: Snapshot, within: Span, by: By) -> Iterator[Sum]:
    """What the attempts came to that arrived within a span."""
    if by.label:
        yield from _labelled(ledger, within, by)
        return
    yield from _of_rollups(ledger, within.first, within.last, by)
    for start, end in within.edges:
        yield from _of_entries(ledger, start, end, by)


def told_by_days(ledger: Snapshot, within: Span) -> list[tuple[int, int]]:
    """The full days of a span, in Unix seconds, of which it is known by day what clients said."""
    first, last = -(-within.first // days.DAY), within.last // days.DAY
    found: list[tuple[int, int]] = []
    for day in days.valid(ledger, first, last) if first < last else ():
        start = day * days.DAY
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], start + days.DAY
        else:
            found.append((start, start + days.DAY))
    return found


def unlabelled(ledger: Snapshot, within: Span, by: Sequence[str]) -> bool:
    """Whether there is time in a span of which it is no longer known what clients said."""
    start = within.start
    for first, last in [] if "hour" in by else told_by_days(ledger, within):
        if start < min(first, within.pruned_before):
            return True
        start = last
    return start < min(within.end, within.pruned_before)


def _labelled(ledger: Snapshot, within: Span, by: By) -> Iterator[Sum]:
    """From sums by the day where they do, from the entries where there are any, else from the sums by the hour, which
    know no label."""
    start = within.start
    told = [] if by.time == "hour" else told_by_days(ledger, within)
    for first, last in [*told, (within.end, within.end)]:
        pruned = min(float(within.pruned_before), first)
        yield from _of_rollups(ledger, int(-(-start // HOUR)) * HOUR, int(pruned // HOUR) * HOUR, by)
        yield from _of_entries(ledger, max(start, pruned), first, by)
        yield from _of_days(ledger, int(first), int(last), by)
        start = last


def bill(ledger: Snapshot, within: Span, by: By) -> Iterator[Sum]:
    """What the time of workers came to and whose it was, of the hours that begin within a span."""
    keys = [*_time(by.time, f"hour / {HOUR}"), *(["label"] if by.label else [])]
    query = _grouped(keys, halves("cost_nanousd"), "allocations", "hour >= :start AND hour < :end")
    for row in ledger.stream(query, {"start": ceil(within.start), "end": ceil(within.end)}):
        time, label = row[1] if by.time else 0, row[-3] if by.label else 0
        yield Sum(row[0], time, "", label, 0, 0, 0, 0, 0, 0, whole(row[-2], row[-1]))


def lines(ledger: Snapshot) -> dict[int, Line]:
    return {int(row[0]): Line(*row[1:]) for row in ledger.stream(f"SELECT id, {', '.join(Line._fields)} FROM lines")}


def labels(ledger: Snapshot) -> Iterator[tuple[int, Label]]:
    for number, model_asked, user, tags in ledger.stream("SELECT id, model_asked, labels.user, tags FROM labels"):
        yield int(number), Label(model_asked, user, tags)


def _of_rollups(ledger: Snapshot, first: int, last: int, by: By) -> Iterator[Sum]:
    if first >= last:
        return
    keys = [*_time(by.time, f"hour / {HOUR}"), *(["outcome"] if by.outcome else [])]
    query = _grouped(keys, _SUMS, "rollups", "hour >= :first AND hour < :last")
    for row in ledger.stream(query, {"first": first, "last": last}):
        yield _sum(row, by, label=0)


def _of_days(ledger: Snapshot, first: int, last: int, by: By) -> Iterator[Sum]:
    if first >= last:
        return
    keys = [*(["day"] if by.time else []), *(["outcome"] if by.outcome else []), "label"]
    query = _grouped(keys, _SUMS, "days", "day >= :first AND day < :last")
    for row in ledger.stream(query, {"first": first // days.DAY, "last": last // days.DAY}):
        yield _sum(row, by, label=row[len(keys)])


def _of_entries(ledger: Snapshot, start: float, end: float, by: By) -> Iterator[Sum]:
    if start >= end:
        return
    hours = f"CAST(FLOOR(started_at / {HOUR}) AS BIGINT)"
    keys = [*_time(by.time, hours), *(["outcome"] if by.outcome else []), *(["label"] if by.label else [])]
    query = _grouped(keys, _ENTRY_SUMS, "entries", "started_at >= :start AND started_at < :end")
    for row in ledger.stream(query, {"start": start, "end": end}):
        yield _sum(row, by, label=row[len(keys)] if by.label else 0)


def _time(resolution: Literal["hour", "day"] | None, hours: str) -> list[str]:
    return [] if resolution is None else [hours] if resolution == "hour" else [f"{hours} / {DAY_HOURS}"]


def _grouped(keys: list[str], measures: str, table: str, condition: str) -> str:
    """SQL for the measures by line and the further keys."""
    columns = ", ".join(["line", *keys, measures])
    places = ", ".join(str(place) for place in range(1, len(keys) + 2))
    return f"SELECT {columns} FROM {table} WHERE {condition} GROUP BY {places}"


def _sum(row: tuple[Any, ...], by: By, label: int) -> Sum:
    requests, attempts, prompt, cached, output, gpu, gpu_rest, cost, cost_rest = row[-9:]
    return Sum(
        row[0],
        row[1] if by.time else 0,
        row[2 if by.time else 1] if by.outcome else "",
        label,
        requests,
        attempts,
        prompt,
        cached,
        output,
        whole(gpu, gpu_rest),
        whole(cost, cost_rest),
    )


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
