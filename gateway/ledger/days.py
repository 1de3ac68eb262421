"""Sums by day of what clients said, so that a report by user or tag need not read every row of a month.

They are made when a day is over, an hour of it at a time, and are right by their sums: a day counts only while it adds
up to its rollups, which are kept with the rows themselves. A row that comes late makes it be made again.
"""

from __future__ import annotations

from gateway.ledger.money import halves, whole
from gateway.ledger.retention import pruned_before
from gateway.ledger.rollup import HOUR
from gateway.ledger.store import Snapshot, Store

DAY = 24 * HOUR
SETTLED = 2 * HOUR  # seconds after its end a day is made: most of what comes late has come

_Sums = dict[int, tuple[int, ...]]

_MEASURES = "requests, attempts, prompt_tokens, cached_tokens, output_tokens, gpu_ns, cost_nanousd"
_SUMS = f"""
    SUM(requests), SUM(attempts), SUM(prompt_tokens), SUM(cached_tokens), SUM(output_tokens), {halves("gpu_ns")},
    {halves("cost_nanousd")}
"""
_ADD = f"""
    INSERT INTO days (day, line, label, outcome, {_MEASURES})
    SELECT :day, line, label, outcome, SUM(CASE WHEN correction = 0 THEN final ELSE 0 END),
        SUM(CASE WHEN correction = 0 THEN 1 ELSE 0 END), SUM(prompt_tokens), SUM(cached_tokens), SUM(output_tokens),
        SUM(gpu_ns), SUM(cost_nanousd)
    FROM entries WHERE started_at >= :start AND started_at < :end GROUP BY line, label, outcome
    ON CONFLICT (day, line, label, outcome) DO UPDATE SET
        requests = days.requests + excluded.requests, attempts = days.attempts + excluded.attempts,
        prompt_tokens = days.prompt_tokens + excluded.prompt_tokens,
        cached_tokens = days.cached_tokens + excluded.cached_tokens,
        output_tokens = days.output_tokens + excluded.output_tokens, gpu_ns = days.gpu_ns + excluded.gpu_ns,
        cost_nanousd = days.cost_nanousd + excluded.cost_nanousd
"""


def valid(ledger: Snapshot, first: int, last: int) -> list[int]:
    """The days (since 1970) in [first, last) whose sums by label hold, in order."""
    kept, made = _sums(ledger, first, last)
    return sorted(day for day, sums in made.items() if kept.get(day) == sums)


class DaySums:
    """Makes them, a step at a time."""

    def __init__(self) -> None:
        self._day: int | None = None
        self._hour = 0  # of that day, the next
        self._tried: _Sums = {}  # the rollups of days that were made: what did not come right is not made over and over

    def step(self, store: Store, now: float) -> bool:
        """Sums up an hour of a day that is over; False when there is none left to do. Raises LedgerError."""
        if self._day is None:
            self._day, self._hour = self._next(store, now), 0
        day = self._day
        if day is None:
            return False
        start = day * DAY + self._hour * HOUR
        with store.change() as change:
            if not self._hour:
                change.add("DELETE FROM days WHERE day = :day", [{"day": day}])
            change.add(_ADD, [{"day": day, "start": start, "end": start + HOUR}])
        self._hour += 1
        if self._hour == DAY // HOUR:
            self._day = None
        return True

    def _next(self, store: Store, now: float) -> int | None:
        """The latest day that is over, not pruned, and has no sums that hold."""
        last = int((now - SETTLED) // DAY)
        with store.snapshot() as ledger:
            kept, made = _sums(ledger, -(-pruned_before(ledger) // DAY), last)
        todo = [day for day, sums in kept.items() if made.get(day) != sums != self._tried.get(day)]
        if not todo:
            return None
        self._tried[max(todo)] = kept[max(todo)]
        return max(todo)


def _sums(ledger: Snapshot, first: int, last: int) -> tuple[_Sums, _Sums]:
    """Of rollups, and of what has been made of them."""
    kept = ledger.rows(
        f"SELECT hour / {DAY}, {_SUMS} FROM rollups WHERE hour >= :first AND hour < :last GROUP BY 1",
        {"first": first * DAY, "last": last * DAY},
    )
    made = ledger.rows(
        f"SELECT day, {_SUMS} FROM days WHERE day >= :first AND day < :last GROUP BY day",
        {"first": first, "last": last},
    )
    return {int(row[0]): _together(row) for row in kept}, {int(row[0]): _together(row) for row in made}


def _together(row: tuple[int, ...]) -> tuple[int, ...]:
    _, *counts, gpu, gpu_rest, cost, cost_rest = row
    return (*counts, whole(gpu, gpu_rest), whole(cost, cost_rest))
