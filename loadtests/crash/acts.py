"""What the processes do that are killed. Each act is a function of a directory and a ledger, the same every time."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Sequence
from mmap import mmap
from pathlib import Path
from typing import NamedTuple, Protocol

from gateway.ledger.journal.writer import Journal
from gateway.ledger.opening import open_store
from gateway.ledger.record import Reading
from gateway.ledger.store import Batch, Counts, LedgerError, Sink
from gateway.settler.settler import Settler
from gateway.settler.sinks import StoreSink
from loadtests.crash.story import Said

SEGMENT = 4_096  # about twenty records: a story turns many
MOST_STEPS = 2_000
CARRIER_STEPS = 5
_COUNT = struct.Struct("<I")


class Carrier(Protocol):
    """Whoever stands between a sink and the ledger."""

    def step(self) -> None: ...

    def close(self) -> None: ...


class Nobody:
    """A sink that writes the ledger itself needs none."""

    def __init__(self, ledger: str) -> None:
        pass

    def step(self) -> None:
        pass

    def close(self) -> None:
        pass


class Stage(NamedTuple):
    """`told` is shared with the parent: how many records were safe, as far as the writer was told."""

    root: Path
    ledger: str
    told: mmap
    said: Sequence[Said]
    open_sink: Callable[[str], Sink]
    open_carrier: Callable[[str], Carrier]


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
    _until_idle(settler, Nobody(""))
    settler.close()


def hand_over(stage: Stage) -> None:
    """A settler that brings the journals of the dead on their way, and lives no longer than that."""
    settler = _settler(stage.root, stage.open_sink(stage.ledger))
    settler.look_now()
    while settler.step():
        pass
    settler.close()


class Survivor:
    """A settler that has brought the journals of the dead on their way, and lives on when others die."""

    def __init__(self, stage: Stage) -> None:
        self._settler = _settler(stage.root, stage.open_sink(stage.ledger))
        self._settler.look_now()
        while self._settler.step():
            pass

    def finish(self, carrier: Carrier) -> None:
        _until_idle(self._settler, carrier)
        carrier.close()
        self._settler.close()


def carry(stage: Stage) -> None:
    """What stands between the settler and the ledger brings what was handed over to its end."""
    carrier = stage.open_carrier(stage.ledger)
    for _ in range(CARRIER_STEPS):
        carrier.step()
    carrier.close()


def all_of_them(stage: Stage) -> None:
    """A gateway, its settler and what follows, the ledger away most of the time; all are killed at once."""
    journal = _journal(stage)
    settler = _settler(stage.root, Flaky(stage.open_sink(stage.ledger)))
    carrier = stage.open_carrier(stage.ledger)
    numbered = enumerate(stage.said)
    while some := list(itertools.islice(numbered, 7)):
        _append(stage, journal, some)
        settler.step()
        carrier.step()
    journal.close()
    _until_idle(settler, carrier)
    carrier.close()
    settler.close()


def recover(root: Path, sink: Sink, carrier: Carrier) -> None:
    """What those who are started next do, undisturbed."""
    settler = _settler(root, sink)
    _until_idle(settler, carrier)
    carrier.close()
    settler.close()


def _until_idle(settler: Settler, carrier: Carrier) -> None:
    quiet = 0
    for _ in range(MOST_STEPS):
        settler.look_now()
        quiet = 0 if settler.step() or not settler.is_idle else quiet + 1
        if quiet == 2:
            return
        carrier.step()
    raise TimeoutError(f"the settler does not come to an end: {settler.status}")


def stage_of(root: Path, ledger: str, told: mmap, said: Sequence[Said]) -> Stage:
    """Where a settler writes the ledger itself."""
    return Stage(root, ledger, told, said, open_store_sink, Nobody)


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
