"""`manifest.json` beside an adapter: on what base, from which examples, how and with what result it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from workers.errors import WorkerToolError

MANIFEST = "manifest.json"


class BadManifest(WorkerToolError):
    """A manifest is there and cannot be read."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Data(_Part):
    """Examples of one file. `learnt_tokens` are those the loss counts; `cut` examples were longer than the window."""

    file: str
    sha256: str
    examples: int
    learnt_tokens: int
    cut: int
    skipped: int


class Losses(_Part):
    """Mean over the held-out examples' learnt tokens, in nats: of the base alone, and with the adapter as saved."""

    held_out_before: float
    held_out_after: float


class Manifest(_Part):
    """No times and no paths: the same training has the same bytes. `base_digest` is that of the base's files."""

    kind: Literal["lora"] = "lora"
    base: str
    base_digest: str
    rank: int
    alpha: int
    targets: tuple[str, ...]
    training: Data
    held_out: Data
    steps: int
    batch_size: int
    learning_rate: float
    window: int
    seed: int
    threads: int
    device: str  # cpu, or the GPU's name
    dtype: str  # of the saved weights
    parameters: int
    losses: Losses
    libraries: Mapping[str, str]

    def write(self, directory: Path) -> None:
        (directory / MANIFEST).write_text(self.model_dump_json(indent=2) + "\n")


def read_manifest(directory: Path) -> Manifest | None:
    """None where there is none: not every adapter was trained here. Raises BadManifest."""
    path = directory / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadManifest(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise BadManifest(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; restore it, or delete it"
        ) from None
