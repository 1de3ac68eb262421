"""What a registry holds that nothing refers to, and the bytes of versions whose names have moved on."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from workers.errors import WorkerToolError
from workers.registry.audit import histories, latest
from workers.registry.progress import size
from workers.registry.store import WAIT, Store


class Swept(NamedTuple):
    """Something given up: what it was, how many bytes it had, and why."""

    what: str
    size: int
    why: str


def sweep(store: Store, *, superseded: bool, dry_run: bool, wait: float = WAIT) -> list[Swept]:
    """Artifacts and records that no name has ever had; with `superseded` the bytes of those that no name has now. What
    a name has had keeps its record. Raises WorkerToolError where histories cannot be read: then nothing is given up."""
    with store.writing(wait):
        entries, broken = histories(store)
        if broken:
            raise WorkerToolError(f"nothing is given up while a history is broken: {broken[0]}")
        named, records = {entry.digest for entry in entries}, {(entry.digest, entry.record) for entry in entries}
        current = {entry.digest for entry in latest(entries).values()}
        found: list[Swept] = []
        for digest in store.digests():
            if digest in (current if superseded else named):
                continue
            why = "superseded" if digest in named else "never registered"
            found.append(Swept(f"artifact {digest}", size(_files(store.artifact(digest))), why))
            if not dry_run:
                store.release(digest)
        for digest in store.recorded():
            for path in store.record_paths(digest):
                if (digest, path.stem) not in records:
                    found.append(Swept(f"record {path.stem} of {digest}", size([path]), "never registered"))
                    if not dry_run:
                        store.forget(digest, path.stem)
    return found


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]
