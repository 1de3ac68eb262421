"""How far the time of workers has been shared out, and what has been metered since."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from math import floor, inf
from typing import NamedTuple

from gateway.ledger.dimensions import written_moment
from gateway.ledger.money import exact, halves, whole
from gateway.ledger.rollup import HOUR
from gateway.ledger.store import Snapshot
from gateway.ledger.sums import Span


class Shared(NamedTuple):
    """`through` is the moment, in Unix seconds, up to which every worker's time is in the bill; None where none's is.

    `unshared` is what was metered of workers' time and awaits its sharing out, in nano-USD.
    """

    through: float | None
    unshared: int

    def notes(self) -> Iterator[str]:
        if self.through is None:
            if self.unshared:
                yield f"no worker's time has been shared out yet: {exact(self.unshared)} metered is not in cost_usd"
            return
        rest = f"; {exact(self.unshared)} metered since is not in it yet" if self.unshared else ""
        yield f"cost_usd: workers' time is shared out through {written_moment(self.through)}, by the hour{rest}"


def shared_out(ledger: Snapshot, within: Span) -> Shared:
    """As far as a span is concerned. A worker that has not been used since its last window holds nothing up."""
    ends = {
        str(worker): float(end)
        for worker, end in ledger.stream(
            """
            SELECT worker, MAX("end") FROM windows WHERE attributed_at IS NOT NULL AND "start" < :end GROUP BY worker
            """,
            {"end": within.end},
        )
    }
    metered = _metered_since(ledger, within, ends)
    unshared = sum(metered.values())
    waiting = [ends.get(worker) for worker, cost in metered.items() if cost]
    if None in waiting:
        return Shared(None, unshared)
    known = [moment for moment in waiting if moment is not None]
    return Shared(min(known, default=max(ends.values(), default=None)), unshared)


def _metered_since(ledger: Snapshot, within: Span, ends: Mapping[str, float]) -> dict[str, int]:
    """Nano-USD by worker, of attempts on workers priced by time that arrived after the last window in its bill."""
    found: dict[str, int] = defaultdict(int)
    parts: set[float] = set()  # last windows that end within an hour that was metered
    oldest = min(ends.values(), default=within.start)
    for worker, hour, billions, rest in ledger.stream(
        f"""
        SELECT worker, hour, {halves("cost_nanousd")}
        FROM rollups JOIN lines ON lines.id = rollups.line
        WHERE hour >= :first AND hour < :last AND cost_basis = 'gpu_time'
            AND (hour > :oldest OR worker NOT IN (SELECT worker FROM windows WHERE attributed_at IS NOT NULL))
        GROUP BY worker, hour
        """,
        {"first": within.first, "last": within.last, "oldest": floor(oldest) - HOUR},
    ):
        end = ends.get(str(worker), -inf)
        if int(hour) >= end:
            found[str(worker)] += whole(billions, rest)
        elif int(hour) + HOUR > end:
            parts.add(end)
    pieces = [(end, float(floor(end / HOUR) * HOUR + HOUR), end) for end in parts]
    for start, until in within.edges:
        pieces += [(max(start, end), until, end) for end in {-inf, *ends.values()} if end < until]
    for start, until, end in pieces:
        for worker, billions, rest in ledger.stream(
            f"""
            SELECT worker, {halves("cost_nanousd")}
            FROM entries JOIN lines ON lines.id = entries.line
            WHERE started_at >= :start AND started_at < :until AND cost_basis = 'gpu_time' GROUP BY worker
            """,
            {"start": start, "until": until},
        ):
            if ends.get(str(worker), -inf) == end:
                found[str(worker)] += whole(billions, rest)
    return found
