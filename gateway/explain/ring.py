"""What one process remembers of its latest requests: a file of fixed size that it writes round and round.

The file is mapped, so that keeping a record is a copy in memory and no system call, and what was kept outlives the
process, however that ends. A file belongs to the process that holds it locked; who starts later takes up one that
nobody holds, and goes on where its last owner stopped.

    header    magic (8 bytes), where the next record goes (8), length of the schema (4), schema
    record    mark (4 bytes), length of the payload (4), its CRC-32 (4), payload

Readers know a record by its mark, length and checksum. One that was overwritten, or torn by a crash, has the wrong
ones. The schema says what the payloads mean; a file of another one is begun anew.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import Final

MAGIC: Final = b"tgring1\n"
HEADER_BYTES: Final = 4096
SCHEMA_AT: Final = 16
MARK: Final = b"\xf5TG\x01"  # no JSON has such a byte
RECORD: Final = struct.Struct("<4sII")
POSITION: Final = struct.Struct("<Q")
LENGTH: Final = struct.Struct("<I")
POSITION_AT: Final = 8
RECORD_BYTES: Final = 12  # of `RECORD`
MAX_PAYLOAD_BYTES: Final = 64 * 1024
STEP_BYTES: Final = 1024 * 1024  # by which a file grows, so that a quiet gateway has a small one
_crc32: Final = zlib.crc32  # bound once: each request has a record
_put_head: Final = RECORD.pack_into
_put_position: Final = POSITION.pack_into
MOST_RINGS = 1024  # of one directory
SUFFIX = ".ring"


class Ring:
    """To be used by one thread. Raises `OSError` when no file can be had in the directory, which is made if need be.

    `max_bytes` is what the file may grow to; where the disk has no room for that, it stays as large as it is.
    """

    def __init__(self, directory: Path, max_bytes: int, schema: bytes) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = _claim(directory)
        self._max_bytes = max(STEP_BYTES, max_bytes)
        self._map: mmap.mmap | None = None
        self.too_long = 0  # records that were not kept
        try:
            self._size = self._prepared(MAGIC, LENGTH.pack(len(schema)) + schema)
            self._map = mmap.mmap(self._file, self._size)
        except BaseException:
            os.close(self._file)
            raise
        (at,) = POSITION.unpack_from(self._map, POSITION_AT)
        self._at: int = at if HEADER_BYTES <= at <= self._size else HEADER_BYTES
        self._limit = self._end_of_step(self._at)  # where appending stops for a moment

    def append(self, payload: bytes) -> None:
        """Keeps a record in the place of the oldest ones; one above `MAX_PAYLOAD_BYTES`, or after `close`, is not."""
        kept = self._map
        length = len(payload)
        if kept is None:
            return
        if length > MAX_PAYLOAD_BYTES:
            self.too_long += 1
            return
        at = self._at
        end = at + RECORD_BYTES + length
        if end > self._limit:
            at = self._go_on(kept, end)
            end = at + RECORD_BYTES + length
        self._at = end
        _put_position(kept, POSITION_AT, end)  # first: who goes on after a crash leaves what was written
        _put_head(kept, at, MARK, length, _crc32(payload))
        kept[at + RECORD_BYTES : end] = payload

    def close(self) -> None:
        """Gives the file to whoever comes next."""
        if self._map is not None:
            self._map.close()
            self._map = None
            os.close(self._file)

    def _go_on(self, kept: mmap.mmap, end: int) -> int:
        """Where to write what would end there, beyond the step that is being written."""
        at = self._turn(kept, end) if end > self._size else self._at
        kept.madvise(mmap.MADV_DONTNEED)  # what was written is in the file: it need not be in this process's memory
        self._limit = self._end_of_step(at)
        return at

    def _end_of_step(self, at: int) -> int:
        """Beyond the record that begins there, however long."""
        return min(self._size, (at + RECORD_BYTES + MAX_PAYLOAD_BYTES) // STEP_BYTES * STEP_BYTES + STEP_BYTES)

    def _turn(self, kept: mmap.mmap, end: int) -> int:
        """Where to write what would end there, past the file's end: here in a file that has grown, or at its start."""
        size = min(self._max_bytes, self._size + STEP_BYTES)
        if end > size:
            return HEADER_BYTES
        try:
            os.posix_fallocate(self._file, 0, size)  # a page that the disk has no room for would be a SIGBUS
            kept.resize(size)
        except OSError:
            self._max_bytes = self._size
            return HEADER_BYTES
        self._size = size
        return self._at

    def _prepared(self, magic: bytes, schema: bytes) -> int:
        """The size of the file, which is one of this format and schema afterwards."""
        file = self._file
        size = os.fstat(file).st_size
        head = os.pread(file, HEADER_BYTES, 0)
        if size < STEP_BYTES or not head.startswith(magic) or not head.startswith(schema, SCHEMA_AT):
            os.ftruncate(file, 0)
            os.posix_fallocate(file, 0, STEP_BYTES)
            os.pwrite(file, schema, SCHEMA_AT)
            os.pwrite(file, magic, 0)  # last: it vouches for the rest
            return STEP_BYTES
        if size > self._max_bytes:
            size = self._max_bytes
            os.ftruncate(file, size)
        return size


def _claim(directory: Path) -> int:
    """The descriptor of the first file that no process holds."""
    for number in range(MOST_RINGS):
        path = directory / f"{number:04d}{SUFFIX}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
        except BaseException:
            os.close(file)
            raise
        else:
            return file
    raise OSError(f"{MOST_RINGS} processes keep theirs there already")
