"""Journal: where a process appends what it must not forget."""

from __future__ import annotations

import errno
import logging
import mmap
import os
import re
import secrets
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gateway.ledger.journal.format import (
    COUNT,
    HEAD,
    LETTERS,
    MAGIC,
    START,
    Kind,
    Unfit,
    beginning,
    define,
    entry,
    entry_of,
    put,
    reading,
    renumbered,
)
from gateway.ledger.journal.owner import claim, is_dead
from gateway.ledger.record import Attempt, Booking, Label, Line, Outcome, Reading
from gateway.ledger.store import LedgerError

logger = logging.getLogger("tollgate.ledger")

MIB = 1024 * 1024
SEGMENT_BYTES = 4 * MIB  # about 30,000 records: a request makes two
SYNC_SECONDS = 1.0  # what a loss of power may cost; a killed process loses nothing
RESERVE = 4  # one part of so many of a segment: where it begins the next one is made
_HIDDEN = re.compile(r"\.[0-9]{13}-[0-9]+-[0-9a-f]{6}")  # as fresh_name makes them
ABANDONED_SECONDS = 3600.0  # after which a directory that nobody ever claimed is nobody's
_HEAD_BYTES: Final = HEAD.size
_SETTLEMENT: Final = LETTERS["settle"]


class Journal:
    """To be used by one thread; a second one brings what is appended to the disk and makes segments ahead."""

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        max_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        """Makes `root/name/` with its first segment; raises LedgerError when that cannot be.

        It is made under a hidden name and shown when it is whole and claimed: no reader takes it for a dead one's.
        """
        self.name = name
        self.directory = root / f".{name}"
        self.settled = 0  # settlements appended
        self.full = False  # nothing new should begin: there is no segment after this one
        self.last_error = ""  # "" when the last segment could be made and brought to the disk
        self._segment_bytes = segment_bytes
        self._max_segments = max(3, max_bytes // segment_bytes)  # the last is for the ends of what has begun
        self._sync_seconds = sync_seconds
        # The segment being written.
        self._number = 0
        self._segment = object()  # to know by whether a number is of this one
        self._numbers: dict[tuple[Line, Label], int] = {}
        self._map: Any = None
        self._file = -1
        self._at = 0
        self._limit = 0  # where appending stops for a moment: where the reserve begins, then the end
        # Shared with the second thread.
        self._work = threading.Lock()  # of making a segment, and of what follows
        self._is_ready = False  # the next segment
        self._is_hopeless = False  # not even one for ends could be made, at the last try
        self._left: list[int] = []  # files of earlier segments, not yet brought to the disk
        self._is_renamed = True  # a segment, since the directory was brought to the disk
        self._wake = threading.Event()
        self._closing = False
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(root)
            self._owner = self._build(root / name)
        except OSError as error:
            raise LedgerError(
                f"the journal {root / name} cannot be written ({error.strerror}): make room on its disk and its "
                "directory writable, or name another under `metering: {journal: …}`"
            ) from error
        self._syncer = threading.Thread(target=self._run, name="journal", daemon=True)
        self._syncer.start()

    def append(self, kind: Kind, attempt: Attempt) -> bool:
        """False when there is no room for it, or it fits no record: it is then in no file.

        What is full takes ends only, for which it has a segment more: where they find no place, what has begun would
        hold the segments of its beginnings for ever.
        """
        is_end = kind == "settle"
        if self.full and not is_end:
            return False
        booking = Booking(attempt.line, attempt.label)
        try:
            number = self._number_of(booking, is_end)
            if number < 0 or not self._put(entry(LETTERS[kind], number, attempt), booking, is_end):
                return False
        except Unfit as error:
            self._say_unfit(error)
            return False
        if is_end:
            self.settled += 1
        return True

    def begin(
        self,
        booking: Booking,
        request_id: str,
        attempt_number: int,
        started_at: float,
        opened_at: float,
        prompt_tokens: int,
        cost_nanousd: int,
        choices: int,
    ) -> bool:
        """The intent of an attempt of which no more is known than this; as `append`."""
        if self.full:
            return False
        try:
            number = self._number_of(booking, False)
            if number < 0:
                return False
            body = beginning(
                number, request_id, attempt_number, started_at, opened_at, prompt_tokens, cost_nanousd, choices
            )
            return self._put(body, booking, False)
        except Unfit as error:
            self._say_unfit(error)
            return False

    def end(
        self,
        booking: Booking,
        request_id: str,
        attempt_number: int,
        started_at: float,
        opened_at: float,
        ttft: float | None,
        duration: float,
        outcome: Outcome,
        status: int,
        estimated: bool,
        prompt: int,
        cached: int,
        output: int,
        gpu_ns: int,
        cost: int,
        choices: int,
    ) -> bool:
        """The settlement of a request's last attempt, of which no row was made. False where `append` is to be asked,
        which also says what is wrong."""
        try:
            number = self._number_of(booking, True)
            if number < 0:
                return False
            body = entry_of(
                _SETTLEMENT,
                number,
                request_id,
                attempt_number,
                0,
                started_at,
                opened_at,
                ttft,
                duration,
                outcome,
                status,
                estimated,
                True,
                prompt,
                cached,
                output,
                gpu_ns,
                cost,
                choices,
            )
            if not self._put(body, booking, True):
                return False
        except Unfit:
            return False
        self.settled += 1
        return True

    def append_reading(self, one: Reading) -> bool:
        if self.full:
            return False
        try:
            body = self._fitting(reading(one))
        except Unfit as error:
            self._say_unfit(error)
            return False
        return self._write(body) or (self._turn(False) and self._write(body))

    def close(self) -> None:
        """What was appended stays; the directory is then a dead process's, whose records somebody else may settle."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._syncer.join(2.0)
        self._map.close()
        self._at = self._limit = self._segment_bytes  # nothing fits any more
        os.close(self._file)
        os.close(self._owner)

    def _number_of(self, booking: Booking, is_end: bool) -> int:
        """In the segment being written; -1 when there is no room to name it."""
        if booking.segment is self._segment:
            return booking.number
        number = self._numbers.get((booking.line, booking.label))
        if number is None:
            number = self._define(booking, is_end)
            if number < 0:
                return -1
        booking.number, booking.segment = number, self._segment
        return number

    def _put(self, body: bytes, booking: Booking, is_end: bool) -> bool:
        if self._write(body):
            return True
        if not self._turn(is_end):
            return False
        number = self._define(booking, is_end)  # a segment's numbers are its own
        return number >= 0 and self._write(renumbered(body, number))

    def _write(self, body: bytes) -> bool:
        at = self._at
        end = at + _HEAD_BYTES + len(body)
        if end > self._limit and not self._use_reserve(end):
            return False
        put(self._map, at, body)
        self._at = end
        return True

    def _fitting(self, body: bytes) -> bytes:
        """One of any length; a record that no segment has room for must not turn one after the other."""
        if len(body) > self._segment_bytes // 2:
            raise Unfit("its names do not fit into a segment")
        return body

    def _use_reserve(self, end: int) -> bool:
        """Where the reserve begins, the next segment is wanted."""
        self._limit = self._segment_bytes
        self._wake.set()
        return end <= self._segment_bytes

    def _define(self, booking: Booking, is_end: bool) -> int:
        number = len(self._numbers)
        line, label = booking.line, booking.label
        if not self._write(self._fitting(define(number, line, label))):
            if not self._turn(is_end):
                return -1
            number = 0
            self._write(define(number, line, label))
        self._numbers[line, label] = number
        return number

    # Segments

    @property
    def _spare(self) -> Path:
        return self.directory / "spare"

    def _build(self, shown: Path) -> int:
        """Makes the directory, and returns what claims it."""
        self.directory.mkdir(mode=0o700)
        owner = -1
        try:
            owner = claim(self.directory)
            self._make()
            self._begin()
            os.rename(self.directory, shown)
        except OSError:
            shutil.rmtree(self.directory, ignore_errors=True)
            for file in (owner, self._file):
                if file >= 0:
                    os.close(file)
            raise
        self.directory = shown
        return owner

    def _turn(self, is_end: bool) -> bool:
        """Goes on to the next segment. Where none can be made the other thread tries again, not each record."""
        with self._work:
            if self._closing:
                return False
            try:
                if not self._is_ready and not self.full:
                    self._make()
            except OSError as error:
                self._say_full(error)
            try:
                if not self._is_ready and is_end and not self._is_hopeless:
                    self._make(for_ends=True)
                if self._is_ready:
                    self._begin()
                    return True
            except OSError as error:
                self._is_hopeless = True
                self._say_full(error)
            return False

    def _begin(self) -> None:
        """Goes on in the spare segment. Raises OSError, and has then changed nothing."""
        self._is_ready = False  # whatever comes: a spare that fails is made anew
        file = os.open(self._spare, os.O_RDWR | os.O_CLOEXEC)
        try:
            mapped = mmap.mmap(file, self._segment_bytes)
            mapped[:START] = MAGIC + COUNT.pack(self.settled)
            os.rename(self._spare, self.directory / f"{self._number + 1:08d}.log")
        except (OSError, ValueError) as error:  # ValueError: it is not as long as it was made
            os.close(file)
            raise (
                error if isinstance(error, OSError) else OSError(errno.EIO, "the spare segment was changed")
            ) from error
        if self._file >= 0:
            self._map.close()
            self._left.append(self._file)
        self._number += 1
        self._file, self._map, self._at = file, mapped, START
        self._limit = self._segment_bytes - (0 if self.full else self._segment_bytes // RESERVE)
        self._segment = object()
        self._numbers.clear()
        self._is_renamed = True

    def _make(self, *, for_ends: bool = False) -> None:
        """The next segment, with its space taken, so that no write into it can fail."""
        segments = sum(1 for name in os.listdir(self.directory) if name.endswith(".log"))
        if segments >= self._max_segments - (not for_ends):
            raise OSError(errno.EFBIG, "it holds as much as `metering: {journal_max_mb: …}` lets it")
        fresh = self._spare.with_suffix(".new")
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, self._segment_bytes)
            os.rename(fresh, self._spare)
        except OSError:
            with suppress(OSError):
                os.unlink(fresh)
            raise
        finally:
            os.close(file)
        self._is_ready = True
        if not for_ends:
            self.full = False
            self.last_error = ""

    # The second thread

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._sync_seconds)
            self._wake.clear()
            self._prepare()
            self._sync()

    def _prepare(self) -> None:
        """Has the next segment ready before it is wanted."""
        with self._work:
            self._is_hopeless = False
            if self._closing or self._is_ready or self._limit < self._segment_bytes:
                return
            try:
                self._make()
            except OSError as error:
                self._say_full(error)

    def _sync(self) -> None:
        """Brings what was appended to the disk."""
        with self._work:
            files, self._left = self._left, []
            is_renamed, self._is_renamed = self._is_renamed, False
            try:
                files.append(os.dup(self._file))
                if is_renamed:
                    files += [
                        os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in (self.directory.parent, self.directory)
                    ]
            except OSError as error:
                self._say(f"the journal cannot be brought to the disk: {error.strerror}")
        for file in files:
            try:
                os.fsync(file) if is_renamed else os.fdatasync(file)  # costs nothing where nothing is new
            except OSError as error:
                self._say(f"the journal cannot be brought to the disk: {error.strerror}")
            finally:
                os.close(file)

    # What it says

    def _say_full(self, error: OSError) -> None:
        self.full = True
        self._say(f"the journal is full: {error.strerror}")

    def _say_unfit(self, error: Unfit) -> None:
        logger.error("the journal does not take a record: %s", error)

    def _say(self, what: str) -> None:
        if what != self.last_error:
            logger.error("%s. %s", what, self.directory)
        self.last_error = what


def _sweep(root: Path) -> None:
    """Removes what processes left that died before their journal was whole."""
    for found in os.scandir(root):
        if _HIDDEN.fullmatch(found.name) and found.is_dir(follow_symlinks=False):
            dead = is_dead(Path(found))
            if dead or (dead is None and time.time() - found.stat().st_mtime > ABANDONED_SECONDS):
                shutil.rmtree(found, ignore_errors=True)


def fresh_name() -> str:
    """Sorts by when the process began; no two are alike, also of containers that share a directory."""
    return f"{time.time_ns() // 1_000_000:013d}-{os.getpid()}-{secrets.token_hex(3)}"
