"""What a gateway says of its attempts, one of each kind after the other, and what the ledger must then hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

from gateway.ledger.journal.format import Entry, Kind
from gateway.ledger.record import Attempt, Label, Line, Outcome, Reading

HOUR = 1_790_000_000 // 3600 * 3600
TENANTS = ("search", "support")

Said = Entry | Reading
Key = tuple[str, int, int]
Row = tuple[object, ...]


class Expected(NamedTuple):
    """Rows by (request, number, correction); readings by (worker, at, source)."""

    rows: dict[Key, Row]
    readings: set[tuple[object, ...]]


def story(requests: int, source: str = "w") -> list[Said]:
    """So many requests of `source`, each kind in its turn, in waves of three between which none is under way: segments
    are let go in time. The last wave is cut off."""
    kinds = cycle((_plain, _streamed, _retried, _hedged, _cached, _cascaded, _corrected))
    requested = [list(kind(_Request(number, source))) for number, kind in zip(range(requests), kinds, strict=False)]
    requested += [list(kind(_Request(requests + at, source))) for at, kind in enumerate((_left_open, _left_between))]
    said: list[Said] = []
    for first in range(0, len(requested), 3):
        wave = requested[first : first + 3]
        while any(wave):
            said += [one.pop(0) for one in wave if one]
        said.append(_reading(len(said), source))
    return said


def expected(said: Sequence[Said]) -> Expected:
    """After the death of who said this, and of nobody else."""
    rows: dict[Key, Row] = {}
    readings: set[tuple[object, ...]] = set()
    running: dict[tuple[str, int], Attempt] = {}
    for one in said:
        if isinstance(one, Reading):
            readings.add((one.worker, one.at, one.source))
            continue
        attempt = one.attempt
        if one.kind != "settle":
            running[attempt.request_id, attempt.number] = attempt
            continue
        running.pop((attempt.request_id, attempt.number), None)
        rows[attempt[:3]] = as_row(attempt)
    last = {request: max(number for other, number in running if other == request) for request, _ in running}
    for (request, number), attempt in running.items():
        rows[attempt[:3]] = as_row(attempt._replace(final=number == last[request]))
    return Expected(rows, readings)


def as_row(attempt: Attempt) -> Row:
    """All of it, but how long a crashed one lived, which nobody knows."""
    duration = None if attempt.outcome == "crashed" else attempt.duration_seconds
    fields = attempt._replace(duration_seconds=0.0, estimated=bool(attempt.estimated), final=bool(attempt.final))
    return (*attempt.line, *attempt.label, duration, *fields[5:8], *fields[9:])


class _Request:
    def __init__(self, number: int, source: str) -> None:
        self.id = f"req_{source.encode().hex():0>12.12}{number:016x}"
        self._number = number
        self._line = Line(TENANTS[number % 2], "k", "chat.completions", "m", "v", "", "r", f"w{number % 3}", "gpu_time")
        self._label = Label("auto", f"user{number % 4}", "")

    def intent(self, number: int, **changes: object) -> Entry:
        return self._entry("intent", number, "crashed", 0, **changes)

    def checkpoint(self, number: int, output: int, outcome: Outcome = "crashed", final: bool = True) -> Entry:
        return self._entry("checkpoint", number, outcome, output, final=final)

    def settle(self, number: int, outcome: Outcome = "ok", output: int = 20, **changes: object) -> Entry:
        return self._entry("settle", number, outcome, output, **changes)

    def _entry(self, kind: Kind, number: int, outcome: Outcome, output: int, **changes: object) -> Entry:
        at = HOUR + 3_400.0 + 7 * self._number  # some in one hour, some in the next
        attempt = Attempt(
            self.id,
            number,
            0,
            self._line,
            self._label,
            at,
            at + 0.25 * number,
            None if output == 0 else 0.125,
            0.5,
            outcome,
            0 if outcome == "crashed" else 200,
            outcome == "crashed",
            True,
            100 + self._number,
            self._number % 7,
            output,
            1_000 * self._number + output,
            10**12 + 1_000_003 * self._number + output,  # beyond what a double sums exactly
            1 + self._number % 3,
        )
        return Entry(kind, attempt._replace(**changes))


def _plain(one: _Request) -> Iterator[Entry]:
    yield one.intent(1)
    yield one.settle(1)


def _streamed(one: _Request) -> Iterator[Entry]:
    yield one.intent(1)
    yield one.checkpoint(1, 64)
    yield one.checkpoint(1, 128)
    yield one.settle(1, "aborted", 150, estimated=True)


def _retried(one: _Request) -> Iterator[Entry]:
    yield one.intent(1)
    yield one.checkpoint(1, 0, "failed", False)
    yield one.intent(2)
    yield one.settle(1, "failed", 0, final=False)
    yield one.settle(2)


def _hedged(one: _Request) -> Iterator[Entry]:
    yield one.intent(1)
    yield one.intent(2)
    yield one.checkpoint(1, 9, "hedged", False)
    yield one.settle(1, "hedged", 9, final=False, estimated=True)
    yield one.settle(2)


def _cached(one: _Request) -> Iterator[Entry]:
    yield one.settle(0, "cached", 20, gpu_ns=0, cost_nanousd=0)


def _left_open(one: _Request) -> Iterator[Entry]:
    yield one.intent(1)
    yield one.checkpoint(1, 64)


def _left_between(one: _Request) -> Iterator[Entry]:
    yield one.intent(1)
    yield one.checkpoint(1, 0, "failed", False)
    yield one.intent(2)


def _cascaded(one: _Request) -> Iterator[Entry]:
    yield one.intent(1)
    yield one.checkpoint(1, 30, "rejected", False)
    yield one.intent(2)
    yield one.checkpoint(2, 64)
    yield one.settle(1, "rejected", 30, final=False)
    yield one.settle(2, "broken", 70)


def _corrected(one: _Request) -> Iterator[Entry]:
    yield one.intent(1)
    yield one.settle(1)
    yield one.settle(1, output=3, correction=1, cost_nanousd=-7, prompt_tokens=0, cached_tokens=0, gpu_ns=0)


def _reading(number: int, source: str) -> Reading:
    return Reading(HOUR + number, source, "w0", "m", "v", 3_600, True, number, 1, 1, 0, 0.5, number, number, 1.0)
