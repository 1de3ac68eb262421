"""Digests of files that were hashed before, so that a start does not read a large checkpoint again.

A file counts as the same while device, inode, size, modification and change time are the same; the change time moves
with every write and cannot be set back by a program. What was changed just before it was hashed is not kept: a write
within the clock's step would leave the same times.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from workers.registry.digest import CannotDigest, FileDigest, digest_of_files, hash_file, paths_of_artifact

SETTLED_NS = 2 * 10**9  # how long ago a file must have been changed for its times to tell of any later change
MOST_FILES = 10_000
THREADS = 8  # hashing leaves Python's lock, and disks like several readers

Stamp = list[int]
Clock = Callable[[], int]


class Seen:
    """Reads and keeps `file`; one that cannot be read or written only costs time."""

    def __init__(self, file: Path, now_ns: Clock = time.time_ns) -> None:
        self._file = file
        self._now_ns = now_ns
        self._known = _load(file)
        self._changed = False

    def digest_of_artifact(self, directory: Path) -> str:
        """As `digest.digest_of_artifact`. Raises CannotDigest."""
        paths = paths_of_artifact(directory)
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            try:
                files = dict(zip(paths, pool.map(self._hash, paths.values()), strict=True))
            except OSError as error:
                raise CannotDigest(f"{error.filename} cannot be read: {error.strerror}") from None
        return digest_of_files(files)

    def keep(self) -> None:
        """Onto the disk, in one step; the files that are gone are left out."""
        if not self._changed:
            return
        kept = {path: value for path, value in self._known.items() if os.path.exists(path)}
        kept = dict(list(kept.items())[-MOST_FILES:])
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=f".{self._file.name}.", dir=self._file.parent)
            with os.fdopen(descriptor, "w") as file:
                json.dump(kept, file)
            os.replace(name, self._file)
        except OSError:
            return

    def _hash(self, path: Path) -> FileDigest:
        real = os.path.realpath(path)
        stamp = _stamp(real)
        known = self._known.get(real)
        if known is not None and known[0] == stamp:
            return FileDigest(stamp[2], known[1])
        found = hash_file(path)
        if _stamp(real) == stamp and max(stamp[3:]) < self._now_ns() - SETTLED_NS:
            self._known[real] = (stamp, found.sha256)
            self._changed = True
        return found


def _stamp(path: str) -> Stamp:
    found = os.stat(path)
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _load(file: Path) -> dict[str, tuple[Stamp, str]]:
    try:
        written: Any = json.loads(file.read_text())
        known = {
            str(path): ([int(part) for part in stamp], str(sha256))
            for path, (stamp, sha256) in cast("dict[str, Any]", written).items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {path: value for path, value in known.items() if len(value[0]) == 5 and len(value[1]) == 64}
