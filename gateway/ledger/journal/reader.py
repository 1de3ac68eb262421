"""What journals hold, read beside their writers: each record once, and again after a restart of the reader."""

from __future__ import annotations

import logging
import mmap
import os
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.ledger.journal.format import (
    HEAD,
    START,
    Lines,
    Said,
    Torn,
    is_blank,
    is_cut_short,
    is_segment,
    parse,
    record_at,
    settled_before,
)
from gateway.ledger.journal.owner import OWNER, is_dead
from gateway.ledger.record import Reading
from gateway.ledger.store import LedgerError

logger = logging.getLogger("tollgate.ledger")

SPARES = ("spare", "spare.new")  # segments that are not yet used
_SEGMENT = re.compile(r"([0-9]{8,18})\.log", re.ASCII)


def journals(root: Path) -> list[str]:
    """The names of all journals under `root`, the oldest first; raises LedgerError. Others' directories are none, and
    an empty one is what a reader left that was killed while it removed one."""
    with _explained(root):
        try:
            found = [one.name for one in os.scandir(root) if one.is_dir() and not one.name.startswith(".")]
        except FileNotFoundError:
            return []
        names: list[str] = []
        for name in sorted(found):
            if (root / name / OWNER).exists():
                names.append(name)
            else:
                with suppress(OSError):
                    os.rmdir(root / name)
        return names


class Tail:
    """One journal, read on and on. Segments are removed when `release` says that nobody needs them.

    Whatever stands in its files is read up to the first thing that is no record, and none of it raises. What the disk
    refuses raises LedgerError, from where reading goes on later.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.segment = 0  # the number of the one being read; 0 before the first
        self.settled_before = 0  # settlements in segments that are gone
        self._at = 0
        self._lines: Lines = {}
        self._damaged: set[int] = set()

    @property
    def damaged(self) -> int:
        """Segments of which something could not be read. They are kept, beside the journal, for somebody to look at."""
        return len(self._damaged)

    def read(self, most: int) -> list[Said | Reading]:
        """What was appended since the last call, as far as it is whole and stands in one segment, which is `segment`
        afterwards. Nothing when there is no more."""
        while True:
            later = [number for number in self._numbers() if number > self.segment]  # then this one is complete
            if self.segment:
                found = self._read_segment(most)
                if found:
                    return found
                if later and not self._check(is_blank):
                    self._say_damaged()
            if not later:
                return []
            is_first = not self.segment
            self.segment, self._at, self._lines = min(later), 0, {}
            if is_first:
                with self._mapped() as data:
                    self.settled_before = settled_before(data)

    def is_dead(self) -> bool:
        """Whether its writer has ended. What was appended before is then all there is: read once more after this."""
        with _explained(self.directory):
            dead = is_dead(self.directory)
        return not self.directory.exists() if dead is None else dead

    def release(self, before: int) -> None:
        """Removes the segments before that number, never the one being read."""
        for number in self._numbers():
            if number < min(before, self.segment):
                self._drop(number)

    def remove(self) -> None:
        """The whole of it, when everything is in the ledger and its writer is dead. The oldest go first, so that one
        who starts over reads the end of each attempt that he reads the beginning of. What is no journal's stays."""
        if self.segment and not self._check(is_cut_short):
            self._say_damaged()
        for number in self._numbers():
            self._drop(number)
        for name in (*SPARES, OWNER):
            with suppress(OSError):
                os.unlink(self.directory / name)
        with suppress(OSError):
            os.rmdir(self.directory)

    def _read_segment(self, most: int) -> list[Said | Reading]:
        found: list[Said | Reading] = []
        at, lines = self._at, self._lines
        with self._mapped() as data:
            try:
                if at < START:
                    if not is_segment(data):
                        return found
                    at = START
                while len(found) < most and (body := record_at(data, at)) is not None:
                    one = parse(body, lines)
                    at += HEAD.size + len(body)
                    if one is not None:
                        found.append(one)
            except (Torn, ValueError):
                pass  # not yet whole, or never; who leaves the segment looks at what stands there
        self._at = at
        return found

    def _check(self, is_it: Callable[[bytes | mmap.mmap, int], bool]) -> bool:
        with self._mapped() as data:
            return is_it(data, self._at)

    @contextmanager
    def _mapped(self) -> Generator[bytes | mmap.mmap]:
        """The segment being read; empty where it is, or where somebody took it away."""
        with _explained(self.directory):
            try:
                file = os.open(self._path(self.segment), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                data: bytes | mmap.mmap = b""
            else:
                try:
                    data = mmap.mmap(file, 0, prot=mmap.PROT_READ) if os.fstat(file).st_size else b""
                finally:
                    os.close(file)
        try:
            yield data
        finally:
            if isinstance(data, mmap.mmap):
                data.close()

    def _say_damaged(self) -> None:
        if self.segment not in self._damaged:
            logger.error("%s is damaged: what stands after byte %d is not read", self._path(self.segment), self._at)
        self._damaged.add(self.segment)

    def _drop(self, number: int) -> None:
        path = self._path(number)
        with _explained(self.directory), suppress(FileNotFoundError):
            if number in self._damaged:
                os.rename(path, self.directory.parent / f"damaged-{self.directory.name}-{path.name}")
            else:
                os.unlink(path)

    def _numbers(self) -> list[int]:
        with _explained(self.directory):
            try:
                found = [_SEGMENT.fullmatch(name) for name in os.listdir(self.directory)]
            except FileNotFoundError:
                return []
        return sorted(int(match[1]) for match in found if match)

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:08d}.log"


@contextmanager
def _explained(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise LedgerError(
            f"the journal {path} cannot be read ({error.strerror}): let this user read and write it, and look after "
            "its disk"
        ) from error
