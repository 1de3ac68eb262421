"""What journals hold, read beside their writers: each record once, and again after a restart of the reader."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gateway.ledger.journal.format import COUNT, MAGIC, START, Entry, Torn, records
from gateway.ledger.journal.writer import OWNER
from gateway.ledger.record import Label, Line, Reading


class Found(NamedTuple):
    """A record, and the number of the segment it stands in."""

    segment: int
    record: Entry | Reading


def journals(root: Path) -> list[str]:
    """The names of all journals under `root`, the oldest first."""
    try:
        return sorted(found.name for found in os.scandir(root) if found.is_dir() and not found.name.startswith("."))
    except FileNotFoundError:
        return []


class Tail:
    """One journal, read on and on. Segments are removed when `release` says that nobody needs them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.segment = 0  # the number of the one being read; 0 before the first
        self.damaged = 0  # segments that were left before their end, for what stood there was no record
        self.settled_before = 0  # settlements in segments that are gone
        self._at = 0
        self._lines: dict[int, tuple[Line, Label]] = {}

    def read(self) -> Iterator[Found]:
        """What was appended since the last call, as far as it is whole."""
        while True:
            later = [number for number in self._numbers() if number > self.segment]  # then this one is complete
            if self.segment:
                torn = yield from self._read_segment()
                if torn and later:
                    self.damaged += 1
            if not later:
                return
            first = not self.segment
            self.segment, self._at, self._lines = min(later), START, {}
            if first:
                self.settled_before = self._count()

    def is_dead(self) -> bool:
        """Whether its writer has ended. What was appended before is then all there is: read once more after this."""
        try:
            owner = os.open(self.directory / OWNER, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(owner)
        return True

    def release(self, before: int) -> None:
        """Removes the segments before that number, never the one being read."""
        for number in self._numbers():
            if number < min(before, self.segment):
                with suppress(FileNotFoundError):
                    os.unlink(self._path(number))

    def remove(self) -> None:
        """The whole of it, when everything is in the ledger and its writer is dead."""
        for number in self._numbers():
            os.unlink(self._path(number))
        shutil.rmtree(self.directory, ignore_errors=True)

    def _read_segment(self) -> Generator[Found, None, bool]:
        """Returns whether something stands at the end that is no record."""
        with self._path(self.segment).open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            try:
                for end, found in records(data, self._at, self._lines):
                    self._at = end
                    if found is not None:
                        yield Found(self.segment, found)
            except Torn:
                return True
        return False

    def _count(self) -> int:
        with self._path(self.segment).open("rb") as file:
            head = file.read(START)
        if not head.startswith(MAGIC):
            return 0
        count: int = COUNT.unpack(head[len(MAGIC) :])[0]
        return count

    def _numbers(self) -> list[int]:
        with suppress(FileNotFoundError):
            return sorted(int(name[:-4]) for name in os.listdir(self.directory) if name.endswith(".log"))
        return []

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:08d}.log"
