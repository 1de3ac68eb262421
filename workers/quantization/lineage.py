"""Where a checkpoint comes from, as far as its directory tells: a name, and the hub's commit."""

from __future__ import annotations

import re
from pathlib import Path

from workers.quantization.manifest import Base
from workers.registry.digest import digest_of_artifact

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DOWNLOADED = Path(".cache/huggingface/download/config.json.metadata")  # what `hf download --local-dir` leaves


def describe(directory: Path) -> Base:
    """Name, digest and revision of a checkpoint. Raises CannotDigest."""
    return Base(name=name_of(directory), digest=digest_of_artifact(directory), revision=revision_of(directory))


def name_of(directory: Path) -> str:
    """The directory's own name; for a snapshot in the hub's cache, the model's (organisation/model)."""
    resolved = directory.absolute()
    if _in_cache(resolved):
        kind, _, name = resolved.parent.parent.name.partition("--")
        if kind == "models":
            return name.replace("--", "/", 1)
    return resolved.resolve().name


def revision_of(directory: Path) -> str | None:
    resolved = directory.absolute()
    if _in_cache(resolved):
        return resolved.name
    try:
        commit = (directory / _DOWNLOADED).read_text().split("\n", 1)[0]
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def _in_cache(directory: Path) -> bool:
    """Whether it is `models--ORGANISATION--MODEL/snapshots/COMMIT`, as huggingface_hub lays its cache out."""
    return directory.parent.name == "snapshots" and bool(_COMMIT.fullmatch(directory.name))
