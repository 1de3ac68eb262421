"""`manifest.json` beside a quantized checkpoint: from what, by which recipe and with which libraries it was made.

It has no times and no paths, so that what is made the same way has the same bytes and with them the same digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from workers.errors import WorkerToolError

MANIFEST = "manifest.json"
FORMAT = 2


class BadManifest(WorkerToolError):
    """A directory has no manifest of a quantized version; the message says why."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Base(_Part):
    """The checkpoint it was made from. `digest` is sha256:… over its files, `revision` the hub's commit where the
    directory tells it."""

    name: str
    digest: str
    revision: str | None = None


class Adapter(_Part):
    """A LoRA adapter: merged into the weights before they were quantized, or kept in `adapter/` of the artifact."""

    name: str
    digest: str
    rank: int
    merged: bool


class Calibration(_Part):
    """`windows` of `length` tokens, `sha256` over the tokens. `files` is a digest over the files they came from, None
    for the built-in text."""

    files: str | None
    windows: int
    length: int
    sha256: str


class Layer(_Part):
    """What quantizing this layer alone does to the model's output, as the mean KL divergence in nats, at 4 and at 8
    bits; and the bits it has in this version. `weights` are the tensors that an engine fuses into this layer."""

    name: str
    weights: tuple[str, ...]
    mean_kld: float
    mean_kld_8bit: float
    bits: Literal[4, 8, 16]


class Requires(_Part):
    """What it takes to serve it. Compute capabilities are NVIDIA's; below `native_capability` the weights are unpacked
    to 16 bits for each product, which saves memory but no arithmetic. `cpu` is whether vLLM's CPU kernels take it."""

    loader: Literal["none", "compressed-tensors", "bitsandbytes"]
    compute_capability: float
    native_capability: float
    cpu: bool
    cpu_flags: tuple[str, ...] = ()
    weight_bytes: int


class Manifest(_Part):
    """Everything that went in. `quantization` is the name models.yaml has for it, `scheme` the library's own."""

    format: Literal[2] = FORMAT
    recipe: str
    quantization: str
    scheme: str
    parameters: Mapping[str, str | int | float]
    base: Base
    adapter: Adapter | None
    calibration: Calibration | None
    seed: int
    threads: int
    device: str
    libraries: Mapping[str, str]
    bits_per_weight: float
    requires: Requires
    layers: tuple[Layer, ...] = ()

    def write(self, directory: Path) -> None:
        content = self.model_dump(mode="json")
        (directory / MANIFEST).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


class Asked(_Part):
    """What decides how an artifact comes out, known before any work."""

    recipe: str
    parameters: Mapping[str, str | int | float]
    base_digest: str
    adapter_digest: str | None
    merged: bool | None
    calibration_files: str | None
    windows: int | None
    length: int | None
    seed: int
    threads: int


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a quantized version. Raises BadManifest."""
    path = directory / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadManifest(
            f"{path} cannot be read: {error.strerror}; was it made by tollgate-worker quantize?"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BadManifest(
            f"{path} is not the manifest of a quantized version as this Tollgate writes it: {where}: {first['msg']};"
            " make the version again: tollgate-worker quantize --force"
        ) from None


def is_manifest(directory: Path) -> bool:
    """Whether the directory says of itself that it is a quantized version, of any format."""
    try:
        found: Any = json.loads((directory / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "recipe" in cast("dict[str, Any]", found)


def is_current(directory: Path, asked: Asked) -> bool:
    """Whether `directory` was made from exactly this, in exactly this way."""
    try:
        found = read_manifest(directory)
    except BadManifest:
        return False
    return asked_of(found) == asked and (directory / "config.json").is_file()


def asked_of(manifest: Manifest) -> Asked:
    adapter, calibration = manifest.adapter, manifest.calibration
    return Asked(
        recipe=manifest.recipe,
        parameters=manifest.parameters,
        base_digest=manifest.base.digest,
        adapter_digest=adapter and adapter.digest,
        merged=adapter and adapter.merged,
        calibration_files=calibration and calibration.files,
        windows=calibration and calibration.windows,
        length=calibration and calibration.length,
        seed=manifest.seed,
        threads=manifest.threads,
    )
