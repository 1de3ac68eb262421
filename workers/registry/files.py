"""Files as a registry writes them: on the disk before they have their name, and never over another."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from workers.errors import WorkerToolError
from workers.registry.digest import CHUNK, Advance, FileDigest, hash_file

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file until one of them is written
_NOT_HERE = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS, errno.EXDEV, errno.ENOTTY}
LOCK_PAUSE = 0.05  # seconds between two attempts

Step = Callable[[str], None]  # told before and after whatever changes the disk


class Busy(WorkerToolError):
    """Another command changes the registry and did not end in time."""


@contextmanager
def locked(path: Path, wait: float) -> Generator[None]:
    """The only writer while the block runs; a killed process leaves no lock. Raises Busy after `wait` seconds."""
    deadline = time.monotonic() + wait
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    holder = file.read(200).strip() or "another process"
                    raise Busy(
                        f"the registry {path.parent} is being changed by {holder}, for {wait:g} s and more;"
                        " run this again when that has ended, or wait longer with --wait"
                    ) from None
                time.sleep(LOCK_PAUSE)
        file.truncate(0)
        file.write(f"process {os.getpid()} of {os.uname().nodename}")
        file.flush()
        yield


def copy(source: Path, target: Path, advance: Advance) -> FileDigest:
    """The digest of what is in `target` now: the same blocks where the file system can share them, otherwise a copy."""
    with source.open("rb") as reading, target.open("xb") as writing:
        try:
            fcntl.ioctl(writing, _FICLONE, reading.fileno())
            shared = True
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            shared = False
        content, size = hashlib.sha256(), 0
        while not shared and (chunk := reading.read(CHUNK)):
            writing.write(chunk)
            content.update(chunk)
            size += len(chunk)
            advance(len(chunk))
        writing.flush()
        os.fchmod(writing.fileno(), 0o444)  # what is registered is not written to
        os.fsync(writing.fileno())
    return hash_file(target, advance) if shared else FileDigest(size, content.hexdigest())


def write(path: Path, content: bytes) -> None:
    """A file with this content, on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())


def name(written: Path, target: Path) -> None:
    """Gives a written file its name. Raises FileExistsError where there is one of that name already."""
    try:
        os.link(written, target)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        if target.exists():  # a file system without hard links: the lock alone keeps others out
            raise FileExistsError(errno.EEXIST, "there is one already", str(target)) from None
        written.rename(target)
    flush(target.parent)


def flush(directory: Path) -> None:
    """A directory's names onto the disk, where its file system can."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    finally:
        os.close(descriptor)


def make(directory: Path) -> None:
    """A directory and those above it, their names on the disk."""
    if directory.is_dir():
        return
    make(directory.parent)
    with suppress(FileExistsError):
        directory.mkdir()
    flush(directory.parent)


def remove(path: Path) -> None:
    """A file, or a directory with all below it; what is not there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
