"""A worker's time as its readings tell it: what is billed, at which rate, and whether somebody saw it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Sight(NamedTuple):
    """A reading, as far as the bill goes. `at` is in milliseconds of Unix time."""

    at: int
    hourly: int
    model: str
    version: str
    in_use: bool  # with a request in flight, or in the engine
    crowded: bool  # with requests waiting in the engine, or its KV cache nearly full


class Piece(NamedTuple):
    """A stretch of a worker's time at one rate, in milliseconds of Unix time."""

    start: int
    end: int
    hourly: int
    model: str
    version: str
    observed: bool


def pieces(sights: Sequence[Sight], start: int, end: int, gap: int) -> list[Piece]:
    """[start, end) as far as it lies between the first sight and the last, cut where the rate or the model changes and
    where observing ends or begins: two sights further apart than `gap` say nothing of what is between."""
    found: list[Piece] = []
    for before, after in pairwise(sights):
        since, until = max(before.at, start), min(after.at, end)
        if since >= until:
            continue
        piece = Piece(since, until, before.hourly, before.model, before.version, after.at - before.at <= gap)
        last = found[-1] if found else None
        if last is not None and last.end == since and last[2:] == piece[2:]:
            found[-1] = last._replace(end=until)
        else:
            found.append(piece)
    return found


def crowding(sights: Sequence[Sight], piece: Piece) -> float:
    """The part of a piece's busy readings that found the worker crowded."""
    there = [sight for sight in sights if piece.start <= sight.at < piece.end and sight.in_use]
    return sum(sight.crowded for sight in there) / len(there) if there else 0.0
