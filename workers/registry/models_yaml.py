"""Writes a registered version or adapter into the configuration directory, which is read as a gateway reads it before
the file is replaced."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.config import examine
from gateway.config.edit import EditError
from gateway.config.entries import put
from gateway.config.problems import Problem
from gateway.config.source import read
from gateway.config.write import rewrite
from workers.errors import WorkerToolError, WrongUsage
from workers.registry.record import Record, Requires
from workers.registry.store import Name

FILE = "models.yaml"
SECTIONS = {"version": "versions", "adapter": "adapters"}


class CannotWrite(WorkerToolError):
    """The configuration cannot be written as asked; it is as it was."""


class Written(NamedTuple):
    """Where an entry stands now."""

    file: Path
    line: int
    changed: bool


def check(directory: Path, name: Name, context: int | None) -> None:
    """Raises WrongUsage where nothing could be written for this name, before any work."""
    if not directory.is_dir():
        raise WrongUsage(
            f"{directory} is no directory; name the one with {FILE} with --config DIR, or leave it alone with"
            " --no-config"
        )
    _refuse(examine(directory).problems, f"{directory} has errors already, mend them first")
    if name.kind == "adapter" and not _has(directory, "models", name.model):
        raise WrongUsage(f"{directory} has no model {name.model}; register a version of it first")
    if not _has(directory, "models", name.model) and context is None:
        raise WrongUsage(f"{directory} has no model {name.model}; say how long its context is with --context TOKENS")


def entry(record: Record, artifact: Path) -> dict[str, Any]:
    """A version as `models.NAME.versions` holds it, an adapter as `adapters` does; None for what it is not to have."""
    if record.kind == "adapter":
        return {"path": _shown(artifact), "digest": record.digest}
    return {
        "artifact": _shown(artifact),
        "quantization": record.quantization,
        "quality": record.quality,
        "digest": record.digest,
        "requires": requires(record.requires) or None,
    }


def requires(found: Requires) -> dict[str, Any]:
    """As models.yaml has it; memory in GB, rounded up."""
    memory = None if found.memory_bytes is None else -(-found.memory_bytes // 10**6) / 1000
    written = {
        "compute_capability": found.compute_capability,
        "driver": found.driver,
        "cpu": None if found.cpu else False,
        "cpu_flags": list(found.cpu_flags) or None,
        "memory_gb": memory,
    }
    return {key: value for key, value in written.items() if value is not None}


def write(directory: Path, name: Name, written: Mapping[str, Any], context: int | None) -> Written:
    """Puts the entry in, replaces the file in one step. Raises CannotWrite with the file as it was."""
    path = ("models", name.model, SECTIONS[name.kind], name.name)
    file = _file(directory, name)
    changed = False

    def edit(text: str) -> str:
        nonlocal changed
        edited = text
        if context is not None and not _has(directory, "models", name.model):
            edited = put(
                edited, ("models", name.model), {"context": context, SECTIONS[name.kind]: {name.name: _kept(written)}}
            )
        edited = put(edited, path, written)
        _refuse(examine(directory, instead={file: edited.encode()}).problems, f"{file} would not be valid any more")
        changed = edited != text
        return edited

    try:
        rewrite(file, edit)
    except EditError as error:
        lines = "\n".join(f"  {key}: {value}" for key, value in _kept(written).items())
        raise CannotWrite(f"{file}: {error}; write under `{'.'.join(path)}`:\n{lines}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CannotWrite(f"{file} cannot be written: {error}; then run this again") from None
    return Written(file, read(directory, os.environ).place(*path).line, changed)


def _file(directory: Path, name: Name) -> Path:
    """The file that has the nearest thing to the entry: the model, else any model, else none yet."""
    source = read(directory, os.environ)
    for path in (("models", name.model), ("models",)):
        if found := source.places.get(path):
            return Path(found.file)
    return directory / FILE


def _has(directory: Path, *path: str) -> bool:
    return path in read(directory, os.environ).places


def _refuse(problems: list[Problem], why: str) -> None:
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    if errors:
        raise CannotWrite("\n".join((f"{why}:", *errors)))


def _kept(written: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in written.items() if value is not None}


def _shown(artifact: Path) -> str:
    """Below the working directory, as `launch` takes it, or absolute."""
    absolute = artifact.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
