"""Output directories that are there completely or not at all, whenever the process that makes them is killed."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".partial"
LOCK_ATTEMPTS = 100
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h


@contextmanager
def replaced(target: Path) -> Generator[Path]:
    """A scratch directory beside `target` that takes its place when the block ends well, and vanishes when it does not.

    A reader sees the old directory or the new one, never a half-written one and, where the file system can exchange two
    directories, never none. What a killed process left behind is removed by the next that writes the same target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(target)
    with _scratch(target) as scratch:
        fresh = scratch / "new"
        fresh.mkdir()
        yield fresh
        for path in fresh.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # some libraries write files only their owner can read
            _flush(path)
        _flush(fresh)
        _put(fresh, target, scratch / "old")
        _flush(target.parent)


def clear_leftovers(target: Path) -> None:
    """Remove scratch directories of `target` that no living process holds, and put back what one had moved away."""
    for path in _scratches(target):
        with _held(path) as held:
            if not held:
                continue
            old = path / "old"
            if old.is_dir() and not target.exists():
                old.rename(target)
            shutil.rmtree(path, ignore_errors=True)


def _put(fresh: Path, target: Path, old: Path) -> None:
    if not target.exists():
        fresh.rename(target)
    elif not _exchange(fresh, target):
        target.rename(old)
        fresh.rename(target)


def _exchange(one: Path, other: Path) -> bool:
    """Both directories in each other's place in one step; False where system or file system has no such step."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    return renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


@contextmanager
def _scratch(target: Path) -> Generator[Path]:
    """A new directory beside `target`, locked as long as this process lives."""
    for _ in range(LOCK_ATTEMPTS):
        path = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=SUFFIX, dir=target.parent))
        with _held(path) as held:
            if not held:
                continue  # another process took it for a leftover, between its making and its lock
            try:
                yield path
            finally:
                shutil.rmtree(path)
            return
    raise OSError(f"no directory beside {target} stays as it was made; does another program clean up there?")


def _scratches(target: Path) -> Iterator[Path]:
    name = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}{re.escape(SUFFIX)}")
    with suppress(FileNotFoundError):
        yield from [path for path in target.parent.iterdir() if name.fullmatch(path.name)]


@contextmanager
def _held(directory: Path) -> Generator[bool]:
    """Whether this process has the directory for itself, which it then has until the block ends."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = directory.is_dir() and os.path.samestat(os.fstat(descriptor), directory.stat())
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)


def _flush(path: Path) -> None:
    """To the disk, so that a name never outlives a loss of power without its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
