"""What the processes do that are killed. Each act is a function of a directory and a ledger, the same every time."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Sequence
from mmap import mmap
from pathlib import Path
from typing import NamedTuple

from gateway.ledger.journal.writer import Journal
from gateway.ledger.opening import open_store
from gateway.ledger.record import Reading
from gateway.ledger.store import Batch, Counts, LedgerError, Sink
from gateway.settler.settler import Settler
from gateway.settler.sinks import StoreSink
from loadtests.crash.story import Said

SEGMENT = 4_096  # about twenty records: a story turns many
MOST_STEPS = 2_000
_COUNT = struct.Struct("<I")


class Stage(NamedTuple):
    """`told` is shared with the parent: how many records were safe, as far as the writer was told."""

    root: Path
    ledger: str
    told: mmap
    said: Sequence[Said]
    open_sink: Callable[[str], Sink]


def told(shared: mmap) -> int:
    return int(_COUNT.unpack_from(shared)[0])


def open_store_sink(ledger: str) -> Sink:
    return StoreSink(open_store(ledger))


class Flaky:
    """A sink that is away again and again, so that batches wait in hand while the journal grows."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._moods = itertools.cycle((True, False, False, False))

    def put(self, batch: Batch) -> int:
        if not next(self._moods):
            raise LedgerError("away")
        return self._sink.put(batch)

    @property
    def counts(self) -> Counts:
        return self._sink.counts

    def settled(self) -> int:
        return self._sink.settled()

    def close(self) -> None:
        self._sink.close()


def say(stage: Stage) -> None:
    """A gateway that says all of it."""
    journal = _journal(stage)
    _append(stage, journal, enumerate(stage.said))
    journal.close()


def settle(stage: Stage) -> None:
    """A settler that finds the journals of the dead."""
    settler = _settler(stage.root, stage.open_sink(stage.ledger))
    until_idle(settler)
    settler.close()


def both(stage: Stage) -> None:
    """A gateway and its settler side by side, the ledger away half of the time; both are killed at once."""
    journal = _journal(stage)
    settler = _settler(stage.root, Flaky(stage.open_sink(stage.ledger)))
    numbered = enumerate(stage.said)
    while some := list(itertools.islice(numbered, 7)):
        _append(stage, journal, some)
        settler.step()
    journal.close()
    until_idle(settler)
    settler.close()


def recover(root: Path, sink: Sink) -> None:
    """What the next settler does, undisturbed."""
    settler = _settler(root, sink)
    until_idle(settler)
    settler.close()


def until_idle(settler: Settler) -> None:
    quiet = 0
    for _ in range(MOST_STEPS):
        settler.look_now()
        quiet = 0 if settler.step() or not settler.is_idle else quiet + 1
        if quiet == 2:
            return
    raise TimeoutError(f"the settler does not come to an end: {settler.status}")


def _journal(stage: Stage) -> Journal:
    return Journal(stage.root, "0000000000001-1-writer", max_bytes=1 << 20, segment_bytes=SEGMENT, sync_seconds=3_600)


def _append(stage: Stage, journal: Journal, some: Iterable[tuple[int, Said]]) -> None:
    for number, one in some:
        taken = journal.append_reading(one) if isinstance(one, Reading) else journal.append(*one)
        if not taken:
            raise LookupError("the journal has no room")
        _COUNT.pack_into(stage.told, 0, number + 1)


def _settler(root: Path, sink: Sink) -> Settler:
    """Time passes between any two of its looks: it never waits."""
    seconds = itertools.count(step=10.0)
    return Settler(root, sink, monotonic=lambda: next(seconds))
