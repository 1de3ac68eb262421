"""What an artifact is, as one digest over the names and contents of its files: the same files, the same digest.

Not part of it are hidden files, which no engine reads, and what an evaluation leaves beside a checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.errors import WorkerToolError

ALGORITHM = "sha256"
BESIDE = frozenset({"evaluation.json", "report.html", "report.md", "plots"})
CHUNK = 2**20


class CannotDigest(WorkerToolError):
    """A directory is no artifact, or cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class FileDigest:
    """One file: its size in bytes and the SHA-256 of its content in hexadecimal."""

    size: int
    sha256: str


HashFile = Callable[[Path], FileDigest]
Advance = Callable[[int], None]  # told of bytes as they are done with


def unheard(_: int) -> None:
    """Nobody watches the progress."""


def digest_of_artifact(directory: Path) -> str:
    """`sha256:…` over every file below `directory`. Raises CannotDigest where there is none, or one is not a file."""
    return digest_of_files(files_of_artifact(directory))


def digest_of_files(files: Mapping[str, FileDigest]) -> str:
    """The digest of an artifact that has these files, by their path in it. No two different sets have the same text:
    no path has a NUL, and what follows it has a fixed length."""
    total = hashlib.new(ALGORITHM)
    for path in sorted(files, key=os.fsencode):
        total.update(os.fsencode(path) + f"\0{files[path].sha256}\n".encode())
    return f"{ALGORITHM}:{total.hexdigest()}"


def hash_file(path: Path, advance: Advance = unheard) -> FileDigest:
    """Raises CannotDigest where the file changes meanwhile, OSError where it cannot be read."""
    content = hashlib.new(ALGORITHM)
    size = 0
    with path.open("rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        while chunk := file.read(CHUNK):
            content.update(chunk)
            size += len(chunk)
            advance(len(chunk))
        after = os.fstat(file.fileno())
    if (before.st_mtime_ns, before.st_size, size) != (after.st_mtime_ns, after.st_size, after.st_size):
        raise CannotDigest(f"{path} is being written; wait until that is done")
    return FileDigest(size, content.hexdigest())


def files_of_artifact(directory: Path, hash_file: HashFile = hash_file) -> dict[str, FileDigest]:
    """Every file that is part of the artifact, by its path in it (`/` between names). Raises CannotDigest."""
    try:
        return {name: hash_file(path) for name, path in paths_of_artifact(directory).items()}
    except OSError as error:
        raise CannotDigest(f"{error.filename} cannot be read: {error.strerror}") from None


def paths_of_artifact(directory: Path) -> dict[str, Path]:
    """The same without a look into the files. A link to a file stands for the file; anything else that is neither file
    nor directory is refused, for what it is cannot be fixed by a digest. Raises CannotDigest."""
    if not directory.is_dir():
        raise CannotDigest(f"{directory} is no directory; an artifact is the directory that holds its config.json")
    found: dict[str, Path] = {}
    _collect(directory, "", found)
    if not found:
        raise CannotDigest(f"{directory} is empty; an artifact is the directory that holds its config.json")
    return found


def is_part(name: str) -> bool:
    """Whether a file or directory of this name, at the top of an artifact's directory, is part of the artifact."""
    return name not in BESIDE and not name.startswith(".")


def _collect(directory: Path, prefix: str, found: dict[str, Path]) -> None:
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        raise CannotDigest(f"{directory} cannot be read: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith(".") or not (prefix or is_part(entry.name)):
            continue
        path, name = directory / entry.name, prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            _collect(path, f"{name}/", found)
        elif _is_regular(path):
            found[name] = path
        else:
            raise CannotDigest(
                f"{path} is neither a file nor a directory (a link to one, or to nothing); put files there"
            )


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
