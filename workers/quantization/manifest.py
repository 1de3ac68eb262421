"""`manifest.json` beside a quantized checkpoint: from what, by which recipe and with which libraries it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """`base_sha256` covers every file of the base checkpoint; `calibration_sha256` the calibration tokens, if any."""

    recipe: str
    scheme: str
    base: str
    base_sha256: str
    seed: int
    samples: int
    calibration_sha256: str | None
    libraries: Mapping[str, str]

    def write(self, directory: Path) -> None:
        (directory / MANIFEST).write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")


def digest_of(directory: Path) -> str:
    """One digest over the names and contents of all files directly in `directory`."""
    total = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def is_current(directory: Path, recipe: str, base_sha256: str, seed: int, samples: int) -> bool:
    """Whether `directory` was made by `recipe` from exactly this base, with this seed and this many samples."""
    try:
        found: Any = json.loads((directory / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    if not isinstance(found, dict):
        return False
    asked = {"recipe": recipe, "base_sha256": base_sha256, "seed": seed, "samples": samples}
    return asked.items() <= cast("dict[str, Any]", found).items()
