"""A stretch of a worker's time, shared out among the attempts that were there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gateway.attribution.fit import Observations
from gateway.attribution.game import shares
from gateway.attribution.load import Entry
from gateway.attribution.model import Coefficients
from gateway.attribution.split import Key
from gateway.attribution.visit import Visit, visit_of
from gateway.attribution.work import work_of

SHORTEST = 15.0  # seconds of a phase: requests live that long
LONGEST = 120.0
ALIKE = 0.6  # of the time that tenants were there may be in one half more than in the other


class Shared(NamedTuple):
    """Seconds by who pays, and in all."""

    users: dict[Key, float]
    busy: float


def share_out(
    entries: Iterable[Entry],
    c: Coefficients,
    start: float,
    end: float,
    crowded: float,
    seen: Observations | None = None,
) -> Shared:
    """The time in [start, end), Unix seconds, in which attempts were there, by line and label. In phases: who is to pay
    for being busy depends on how busy the worker was."""
    visits = [visit_of(*entry, c) for entry in entries]
    users: defaultdict[Key, float] = defaultdict(float)
    busy = 0.0
    phases = list(_phases(visits, start, end))
    if seen is not None and len(phases) > 1:  # stretches that are cut say less
        work_of(visits, c, start, end, seen)
        seen = None
    for since, until in phases:
        there = [visit for visit in visits if visit.opened < until and visit.end >= since]
        work = work_of(there, c, since, until, seen)
        busy += work.busy
        for visit, share in zip(there, shares(work, until - since, crowded), strict=True):
            users[_key(visit)] += share
    return Shared(users, busy)


def _phases(visits: Sequence[Visit], start: float, end: float) -> Iterator[tuple[float, float]]:
    """[start, end) in parts that are much alike within: halved where the halves differ by who was there."""
    middle = (start + end) / 2
    if end - start < 2 * SHORTEST:
        yield start, end
        return
    first: defaultdict[str, float] = defaultdict(float)  # seconds in the first half, less those in the second
    told = 0.0
    for visit in visits:
        since, until = max(visit.opened, start), min(visit.end, end)
        if until > since:
            told += until - since
            first[visit.tenant] += max(0.0, min(until, middle) - since) - max(0.0, until - max(since, middle))
    if sum(map(abs, first.values())) > ALIKE * told or end - start > LONGEST:
        yield from _phases(visits, start, middle)
        yield from _phases(visits, middle, end)
    else:
        yield start, end


def _key(visit: Visit) -> Key:
    return Key(visit.line, visit.label, visit.tenant)
