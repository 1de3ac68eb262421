"""Journal: where a process appends what it must not forget."""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import threading
import time
from pathlib import Path
from typing import Any

from gateway.ledger.journal.format import COUNT, LETTERS, MAGIC, START, Kind, define, entry, framed, reading
from gateway.ledger.record import Attempt, Label, Line, Reading
from gateway.ledger.store import LedgerError

logger = logging.getLogger("tollgate.ledger")

MIB = 1024 * 1024
SEGMENT_BYTES = 4 * MIB  # about 30,000 records: a request makes two
SYNC_SECONDS = 1.0  # what a loss of power may cost; a killed process loses nothing
RESERVE = 4  # one part of so many of the last segment is kept for the ends of what has begun
OWNER = "owner"
_SETTLE: Kind = "settle"


class Journal:
    """To be used by one thread; a second one brings what is appended to the disk and makes segments ahead."""

    def __init__(self, root: Path, name: str, *, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Makes `root/name/` with its first segment; raises LedgerError when that cannot be."""
        self.name = name
        self.directory = root / f".{name}"  # until its owner is locked: an unlocked journal is a dead process's
        self._segment_bytes = segment_bytes
        self._max_segments = max(2, max_bytes // segment_bytes)
        self._number = 0
        self._lines: dict[tuple[Line, Label], int] = {}
        self._at = 0
        self._map: Any = None
        self._file = -1
        self._spare = self.directory / "spare"
        self.settled = 0  # settlements appended
        self.full = False  # nothing new should begin: there is no segment after this one
        self.last_error = ""
        self._work = threading.Lock()  # of making a segment
        self._closing = threading.Event()
        try:
            self.directory.mkdir(mode=0o700, parents=True)
            self._owner = os.open(self.directory / OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._make(self._spare)
            self._begin()
            os.rename(self.directory, root / name)
            self.directory = root / name
            self._spare = self.directory / "spare"
        except OSError as error:
            raise LedgerError(
                f"the journal {self.directory} cannot be written ({error.strerror}): make room on its disk and its "
                "directory writable, or name another under `metering: {journal: …}`"
            ) from error
        self._syncer = threading.Thread(target=self._run, name="journal", daemon=True)
        self._syncer.start()

    def append(self, kind: Kind, attempt: Attempt) -> bool:
        """False when there is no room: the record is then in no file."""
        key = attempt.line, attempt.label
        number = self._lines.get(key)
        letter = LETTERS[kind]
        if number is None:
            number = self._define(key)
            if number < 0:
                return False
        if not self._write(framed(entry(letter, number, attempt))):
            if not self._turn():
                return False
            number = self._define(key)  # a segment's numbers are its own
            if number < 0 or not self._write(framed(entry(letter, number, attempt))):
                return False
        if kind == _SETTLE:
            self.settled += 1
        return True

    def append_reading(self, one: Reading) -> bool:
        record = framed(reading(one))
        return self._write(record) or (self._turn() and self._write(record))

    def close(self) -> None:
        """What was appended stays; the directory is then a dead process's, whose records somebody else may settle."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._syncer.join(2.0)
        self._release()
        os.close(self._owner)

    def _write(self, record: bytes) -> bool:
        at = self._at
        end = at + len(record)
        if end > self._segment_bytes:
            return False
        self._map[at:end] = record
        self._at = end
        return True

    def _reserve_is_touched(self, at: int) -> bool:
        return at > self._segment_bytes - self._segment_bytes // RESERVE

    def _define(self, key: tuple[Line, Label]) -> int:
        number = len(self._lines)
        record = framed(define(number, key[0], key[1]))
        if not self._write(record):
            if not self._turn():
                return -1
            number = 0
            self._write(framed(define(number, key[0], key[1])))
        self._lines[key] = number
        return number

    # Segments

    def _turn(self) -> bool:
        """Goes on to the next segment."""
        with self._work:
            if not self._spare.exists():
                try:
                    self._make(self._spare)
                except OSError as error:
                    self._say(f"the journal is full: {error.strerror}")
                    self.full = True
                    return False
            self._begin()
        return True

    def _begin(self) -> None:
        file = os.open(self._spare, os.O_RDWR | os.O_CLOEXEC)
        mapped = mmap.mmap(file, self._segment_bytes)
        mapped[:START] = MAGIC + COUNT.pack(self.settled)
        self._number += 1
        os.rename(self._spare, self.directory / f"{self._number:08d}.log")
        self._release()
        self._file, self._map, self._at = file, mapped, START
        self._lines.clear()
        self.full = False

    def _release(self) -> None:
        if self._file >= 0:
            self._map.close()
            os.close(self._file)
            self._file = -1

    def _make(self, path: Path) -> None:
        """A segment with its space taken, so that no write into it can fail."""
        if len([name for name in os.listdir(self.directory) if name.endswith(".log")]) >= self._max_segments:
            raise OSError(27, "it holds as much as `metering: {journal_max_mb: …}` lets it")
        fresh = path.with_suffix(".new")
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, self._segment_bytes)
        except OSError:
            os.unlink(fresh)
            raise
        finally:
            os.close(file)
        os.rename(fresh, path)

    def _run(self) -> None:
        """Brings what was appended to the disk, and has the next segment ready before it is wanted."""
        while not self._closing.wait(SYNC_SECONDS):
            with self._work:
                file, at = os.dup(self._file), self._at
            try:
                os.fdatasync(file)  # costs nothing where nothing is new
            except OSError as error:
                self._say(f"the journal cannot be brought to the disk: {error.strerror}")
            finally:
                os.close(file)
            if self._reserve_is_touched(at) and not self._spare.exists():
                with self._work:
                    try:
                        self._make(self._spare)
                        self.full = False
                        self.last_error = ""
                    except OSError as error:
                        self._say(f"the journal is full: {error.strerror}")
                        self.full = True

    def _say(self, what: str) -> None:
        if what != self.last_error:
            logger.error("%s. %s", what, self.directory)
        self.last_error = what


def fresh_name() -> str:
    """Sorts by when the process began."""
    return f"{time.time_ns() // 1_000_000:013d}-{os.getpid()}"
