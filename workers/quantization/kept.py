"""What a long stage has found so far, kept beside the output: one line per result, so that a killed run goes on there.

The file is named after what the results were made from; those made from anything else are removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers.errors import WorkerToolError


class Kept:
    """Results by name. Each is on the disk when `keep` returns; a line that was cut short is as if never written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise WorkerToolError(
                f"{path} is in use: another run makes the same output; wait until it is done"
            ) from None
        self._found: dict[str, float] = {}
        self._file.seek(0)
        whole = 0
        for line in self._file:
            entry = _parsed(line)
            if entry is None:
                break
            self._found[entry[0]] = entry[1]
            whole += len(line)
        self._file.truncate(whole)

    def get(self, name: str) -> float | None:
        return self._found.get(name)

    @property
    def is_empty(self) -> bool:
        return not self._found

    def keep(self, name: str, value: float) -> None:
        self._file.write(json.dumps([name, value]).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._found[name] = value

    def close(self) -> None:
        self._file.close()


@contextmanager
def kept_beside(out: Path, made_from: Mapping[str, object]) -> Generator[Kept]:
    """What was found from exactly `made_from`. Removed when the block ends well."""
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    path = out.parent / f".{out.name}.{digest}.kept"
    out.parent.mkdir(parents=True, exist_ok=True)
    for other in _others(out):
        if other != path:
            _remove_unused(other)
    found = Kept(path)
    try:
        yield found
        path.unlink(missing_ok=True)
    finally:
        if found.is_empty:
            path.unlink(missing_ok=True)
        found.close()


def _others(out: Path) -> Iterator[Path]:
    for path in out.parent.glob("*.kept"):
        name = path.name.removesuffix(".kept")
        if name.rpartition(".")[0] == f".{out.name}" and len(name.rpartition(".")[2]) == 16:
            yield path


def _remove_unused(path: Path) -> None:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        path.unlink(missing_ok=True)


def _parsed(line: bytes) -> tuple[str, float] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        found: Any = json.loads(line)
    except ValueError:
        return None
    match found:
        case [str(name), float(value)]:
            return name, value
        case _:
            return None
