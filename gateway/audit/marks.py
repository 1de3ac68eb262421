"""Readings as marks on the life of an engine: its counters at a moment, and whether anybody kept it busy. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from gateway.ledger.audits import LAST
from gateway.ledger.record import Reading

SILENT_SECONDS = 900.0  # without a reading of its own a gateway elsewhere is taken to be gone
SAME_SECONDS = 1.0  # by which two readings of one engine's start may differ
LATE_SECONDS = 2.0  # by which two readings may be in another order than their pages were written


class Mark(NamedTuple):
    """`calm`: as far as readings tell, nothing was under way at `at` (Unix seconds)."""

    at: float
    started: float  # the engine; 0 where unknown
    prompt_tokens: int
    output_tokens: int
    calm: bool


class Heard(NamedTuple):
    """What other processes have said of a worker. Times are Unix seconds."""

    first: Mapping[str, float]
    latest: Mapping[str, Reading]
    idle: Mapping[str, float]  # when each was last seen to have nothing in flight

    def awaited(self, at: float, now: float) -> Iterator[Reading]:
        """The latest of each that may still have to say what it began before `at`."""
        for source, one in self.latest.items():
            had_begun, was_idle = self.first[source] <= at, self.idle.get(source, 0.0) >= at
            if had_begun and not was_idle and one.busy_ns != LAST and one.at >= now - SILENT_SECONDS:
                yield one


def heard(readings: Iterable[Reading], own: Collection[str] | None) -> Heard:
    """Of readings by time; `own` as in `marks`."""
    first: dict[str, float] = {}
    latest: dict[str, Reading] = {}
    idle: dict[str, float] = {}
    for one in readings:
        if own is not None and one.source not in own:
            first.setdefault(one.source, one.at)
            latest[one.source] = one
            if not one.in_flight:
                idle[one.source] = one.at
    return Heard(first, latest, idle)


def marks(readings: Sequence[Reading], now: float, *, through: float, own: Collection[str] | None) -> list[Mark]:
    """Of the readings that have counters, up to `through`: no attempt of the processes `own` that began before it is
    still to come into the ledger. None: there are no others. Of others it is known when a later reading has nothing in
    flight, or when they have said that they end: a process says things in their order.
    """
    others = heard(readings, own)
    return [
        Mark(
            one.at,
            one.engine_started,
            one.prompt_tokens,
            one.output_tokens,
            not one.in_flight and one.running <= 0 and one.waiting <= 0 and not any(others.awaited(one.at, now)),
        )
        for one in readings
        if one.prompt_tokens >= 0 and one.output_tokens >= 0 and one.at <= through
    ]


def lives(found: Iterable[Mark]) -> list[list[Mark]]:
    """Cut where the engine began anew: another start or, where that is not known, a counter that fell."""
    cut: list[list[Mark]] = []
    for mark in found:
        last = cut[-1][-1] if cut else None
        if last is None or not is_same(last, mark):
            cut.append([mark])
        elif mark.prompt_tokens >= last.prompt_tokens and mark.output_tokens >= last.output_tokens:
            cut[-1].append(mark)
        # else its page was written before the last one's and came later
    return cut


def is_same(last: Mark, mark: Mark) -> bool:
    """Whether it is still the engine of the mark before."""
    if last.started and mark.started:
        return abs(mark.started - last.started) <= SAME_SECONDS
    fell = mark.prompt_tokens < last.prompt_tokens or mark.output_tokens < last.output_tokens
    return not fell or mark.at - last.at < LATE_SECONDS
