"""What a configuration says about where an adapter is to serve: its model's checkpoints, the room its workers have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gateway import config
from gateway.table import Model, Table, Worker
from workers.adapters.check import Room
from workers.errors import WrongUsage
from workers.quantization.manifest import BadManifest, read_manifest
from workers.registry.digest import digest_of_artifact

FLAG = "--max-lora-rank"


@dataclass(frozen=True, slots=True)
class Place:
    """One version's checkpoint that adapters of the model are put on."""

    version: str
    artifact: Path


def load(directory: Path) -> Table:
    """Raises WrongUsage."""
    try:
        return config.load(directory)
    except config.ConfigError as error:
        raise WrongUsage(str(error)) from None


def model_of(table: Table, name: str) -> Model:
    model = table.models.get(name)
    if model is None:
        raise WrongUsage(f"no model {name} in {table.directory}; there are: {', '.join(sorted(table.models))}")
    return model


def places(table: Table, model: Model, base: Path) -> list[Place]:
    """Of versions whose checkpoints are on this machine; relative paths are below `base`."""
    found = [
        Place(version.name, base / version.artifact)
        for version in model.versions.values()
        if version.artifact is not None and (base / version.artifact).is_dir()
    ]
    if not found:
        raise WrongUsage(
            f"no checkpoint of {model.name} is here ({table.directory}: versions: artifact); give one with --base"
        )
    return found


def rooms(table: Table, model: Model) -> tuple[Room, ...]:
    """Of the workers that take adapters of the model. One that is started here is started for the configured ones."""
    takers = (worker for worker in table.workers.values() if worker.model == model.name and worker.max_loras)
    return tuple(Room(worker.name, _max_rank(worker)) for worker in takers if not _follows(worker))


def _follows(worker: Worker) -> bool:
    return worker.launch is not None and _told(worker.launch.args) is None


def _max_rank(worker: Worker) -> int | None:
    return None if worker.launch is None else _told(worker.launch.args)


def _told(args: Sequence[str]) -> int | None:
    """What the last of the options says, as a command line is read."""
    said = [args[at + 1] for at, one in enumerate(args[:-1]) if one == FLAG]
    said += [one.partition("=")[2] for one in args if one.startswith(f"{FLAG}=")]
    return int(said[-1]) if said and said[-1].isdigit() else None


def origin(artifact: Path) -> str | None:
    """The digest of the unquantized checkpoint: of the files themselves, or of what they were quantized from, as their
    manifest has it; None where a quantized one does not say."""
    if "quantization_config" not in _json(artifact / "config.json"):
        return digest_of_artifact(artifact)
    try:
        return read_manifest(artifact).base.digest
    except BadManifest:
        return None


def _json(path: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
