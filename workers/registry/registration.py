"""One registration from its first check to the line in models.yaml: bytes, record, announcement, name, configuration.

Whatever refuses does so before anything is written. Killed in between, it leaves what nobody refers to; run again, it
finds what is done already and does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.registry import lineage, models_yaml
from workers.registry.audit import compare
from workers.registry.digest import Advance, digest_of_files, files_of_artifact, hash_file, paths_of_artifact, unheard
from workers.registry.models_yaml import Written
from workers.registry.record import Override, Record
from workers.registry.store import WAIT, Name, Placed, Store

Announce = Callable[[Record, str, Path], str]  # record, its SHA-256, where the artifact lies → what was announced


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be registered. `config` None leaves every configuration alone; `requires` are the parts that
    differ from what manifest and evaluation say; `move` lets the name stand for other bytes than before; `settings` go
    into the configuration with the rest of the entry."""

    artifact: Path
    evaluation: Path
    name: Name
    by: str
    at: str  # ISO 8601, UTC
    tollgate: str
    config: Path | None = None
    context: int | None = None
    override: Override | None = None
    requires: Mapping[str, Any] = field(default_factory=dict[str, Any])
    move: bool = False
    wait: float = WAIT
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Registered:
    """What came of it. `named` is False where it was registered in just this way before."""

    record: Record
    sha256: str
    placed: Placed
    named: bool
    announced: str | None
    written: Written | None


def register(asked: Asked, store: Store, announce: Announce | None = None, advance: Advance = unheard) -> Registered:
    """Raises WorkerToolError, with the registry as it was or with something in it that nothing refers to."""
    paths = paths_of_artifact(asked.artifact)
    found = lineage.read_found(asked.artifact, asked.evaluation)
    if asked.config is not None:
        models_yaml.check(asked.config, asked.name, asked.context)
    known = files_of_artifact(asked.artifact, lambda path: hash_file(path, advance))
    lineage.check(asked.name, asked.artifact, known, found, asked.override)
    record = lineage.record(
        asked.name,
        known,
        found,
        lineage.needs(found).model_copy(update=dict(asked.requires)),
        override=asked.override,
        by=asked.by,
        at=asked.at,
        tollgate=asked.tollgate,
    )
    with store.writing(asked.wait):
        store.check_name(asked.name, record.digest, move=asked.move)  # before bytes are copied for nothing
        target = store.artifact(digest_of_files(known))
        wrong = compare(target, record.files, advance) if target.is_dir() else {}
        placed = store.put_artifact(paths, known, advance, wrong)
        sha256 = store.put_record(record)
        record = store.record(record.digest, sha256)
        announced = announce(record, sha256, placed.path) if announce else None
        named = store.put_name(asked.name, record, sha256, move=asked.move)
        written = None
        if asked.config is not None:
            entry = {**models_yaml.entry(record, placed.path), **asked.settings}
            written = models_yaml.write(asked.config, asked.name, entry, asked.context)
    return Registered(record, sha256, placed, named, announced, written)
