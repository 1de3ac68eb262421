"""From an artifact, its manifest and its evaluation to the record of it, or to the reason why there can be none."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.errors import WorkerToolError, WrongUsage
from workers.evaluation import gates
from workers.evaluation.bounds import Bounds
from workers.evaluation.result import FILE, Evaluation, read
from workers.registry.digest import FileDigest, digest_of_files
from workers.registry.record import Adapter, Base, File, Gate, Override, Record, Requires
from workers.registry.store import Name

MANIFEST = "manifest.json"
MOST_MANIFEST = 16 * 2**20  # bytes
UNQUANTIZED = "none"
# The least NVIDIA driver of each CUDA, by major version (CUDA compatibility guide, minor version compatibility).
DRIVERS = {"11": "450.80.02", "12": "525.60.13", "13": "580"}
# The least compute capability that vLLM's kernels take, where the manifest does not say (compressed_tensors/schemes).
CAPABILITIES = {"fp8": 7.5, "w8a8": 7.5, "w4a16": 7.5, "nf4": 7.0}


class Refused(WorkerToolError):
    """The artifact may not be registered; the message says why and what to do."""


class _Read(BaseModel):
    """Part of a manifest. What else it says stays in the record, unread."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Made(_Read):
    """What a version was made from."""

    name: str
    digest: str
    revision: str | None = None


class _Merged(_Read):
    name: str
    digest: str
    merged: bool = True


class _Calibration(_Read):
    sha256: str


class _Needs(_Read):
    compute_capability: float | None = None
    cpu: bool = True
    cpu_flags: tuple[str, ...] = ()
    weight_bytes: int | None = None


class Manifest(_Read):
    """What the manifests of quantized versions and of trained adapters have in common."""

    recipe: str | None = None
    quantization: str | None = None
    base: _Made | str
    base_digest: str | None = None
    base_sha256: str | None = None
    adapter: _Merged | None = None
    calibration: _Calibration | None = None
    calibration_sha256: str | None = None
    libraries: Mapping[str, str] = Field(default_factory=dict[str, str])
    requires: _Needs | None = None

    @property
    def origin(self) -> Base:
        if isinstance(self.base, _Made):
            return Base(name=self.base.name, digest=self.base.digest, revision=self.base.revision)
        digest = self.base_digest or (f"sha256:{self.base_sha256}" if self.base_sha256 else None)
        return Base(name=self.base, digest=digest, revision=None)


class Found(_Read):
    """A manifest as understood and as it stands, and an evaluation with the SHA-256 of its file."""

    manifest: Manifest | None
    written: Mapping[str, Any] | None
    evaluation: Evaluation
    evaluated: Mapping[str, Any]
    evaluation_sha256: str


def read_found(artifact: Path, evaluation: Path) -> Found:
    """Raises WrongUsage or CannotRead where a file that has to be there is not, or is not what it should be."""
    found = read(evaluation)
    content = (evaluation / FILE if evaluation.is_dir() else evaluation).read_bytes()
    manifest, written = _manifest(artifact)
    return Found(
        manifest=manifest,
        written=written,
        evaluation=found,
        evaluated=json.loads(content),
        evaluation_sha256=hashlib.sha256(content).hexdigest(),
    )


def check(name: Name, artifact: Path, files: Mapping[str, FileDigest], found: Found, override: Override | None) -> None:
    """Raises Refused, with everything that is wrong at once."""
    wrong = [*_of_another(artifact, digest_of_files(files), found.evaluation)]
    wrong += _judged_otherwise(found.evaluation)
    wrong += _inconsistent(name, artifact, files, found)
    evaluation = found.evaluation
    if override is not None and evaluation.passed:
        raise WrongUsage("every gate has passed, so there is nothing to override; leave --override out")
    if not evaluation.passed and override is None:
        wrong.append(
            f"it has not passed: {failed(evaluation)}; make a better version, or let it in for ever on record with"
            " --override REASON --by NAME"
        )
    if wrong:
        raise Refused(f"{artifact} is not registered: " + "; and ".join(wrong))


def failed(evaluation: Evaluation) -> str:
    """The gates that keep an evaluation from having passed."""
    if not evaluation.verdicts:
        return "no gate has judged it"
    return ", ".join(
        f"{one.gate}: {one.measured or 'not measured'}, must be {one.bound}"
        if one.passed is not None
        else f"{one.gate} could not be judged ({one.reason})"
        for one in evaluation.verdicts
        if not one.passed and not (one.passed is None and one.optional)
    )


def record(
    name: Name,
    files: Mapping[str, FileDigest],
    found: Found,
    requires: Requires,
    *,
    override: Override | None,
    by: str,
    at: str,
    tollgate: str,
) -> Record:
    """`requires` is what `needs` says, or what a person says instead."""
    manifest, evaluation = found.manifest, found.evaluation
    merged = manifest.adapter if manifest else None
    calibration = manifest.calibration.sha256 if manifest and manifest.calibration else None
    return Record(
        kind=name.kind,
        name=str(name),
        digest=digest_of_files(files),
        files={path: File(size=file.size, sha256=file.sha256) for path, file in sorted(files.items())},
        base=manifest.origin if manifest else None,
        adapter=Adapter(name=merged.name, digest=merged.digest, merged=merged.merged) if merged else None,
        recipe=manifest.recipe if manifest else None,
        quantization=evaluation.candidate.quantization,
        quality=quality(evaluation),
        calibration_sha256=calibration or (manifest.calibration_sha256 if manifest else None),
        libraries=manifest.libraries if manifest else {},
        engine=evaluation.conditions.engine,
        engine_libraries=evaluation.conditions.libraries,
        device=evaluation.conditions.device,
        requires=requires,
        gates=tuple(
            Gate(
                gate=one.gate,
                passed=one.passed,
                measured=one.measured,
                bound=one.bound,
                reason=one.reason,
                optional=one.optional,
            )
            for one in evaluation.verdicts
        ),
        passed=evaluation.passed,
        override=override,
        manifest=found.written,
        evaluation=found.evaluated,
        evaluation_sha256=found.evaluation_sha256,
        tollgate=tollgate,
        by=by,
        at=at,
    )


def quality(evaluation: Evaluation) -> float | None:
    """The reference's perplexity divided by the candidate's, to three places, at most 1; None where not measured."""
    measured = evaluation.perplexity
    if measured is None or not measured.candidate > 0:
        return None
    ratio = measured.reference / measured.candidate
    return min(1.0, round(ratio, 3)) if math.isfinite(ratio) else None


def needs(found: Found, machine: str | None = None) -> Requires:
    """What it takes to serve it: what its manifest says, and what it was proven with."""
    candidate, conditions = found.evaluation.candidate, found.evaluation.conditions
    told = found.manifest.requires if found.manifest else None
    cuda = next((text for text in conditions.libraries.values() if "+cu" in text), "").partition("+cu")[2][:2]
    flags = told.cpu_flags if told else ()
    proven_on_x86 = "+cpu" in "".join(conditions.libraries.values()) and (machine or platform.machine()) == "x86_64"
    if not flags and proven_on_x86:
        flags = ("avx2",)  # the least of vLLM's builds for x86
    capability = told.compute_capability if told else None
    return Requires(
        compute_capability=capability or CAPABILITIES.get(candidate.quantization),
        driver=DRIVERS.get(cuda),
        cpu=told.cpu if told else True,
        cpu_flags=flags,
        memory_bytes=(told.weight_bytes if told else None) or candidate.weight_bytes or None,
    )


def _of_another(artifact: Path, digest: str, evaluation: Evaluation) -> list[str]:
    evaluated = evaluation.candidate.digest
    if evaluated is None:
        return [
            "it was evaluated at an endpoint, so nobody knows with which files;"
            f" evaluate the directory: tollgate-worker evaluate {artifact}"
        ]
    if evaluated != digest:
        return [
            f"the evaluation is of another artifact ({evaluated}), and its files are {digest};"
            " evaluate it as it is now, or put back the files that were evaluated"
        ]
    return []


def _judged_otherwise(evaluation: Evaluation) -> list[str]:
    """Verdicts that do not follow from what was measured and the bounds beside it. Further gates (a baseline's, an
    adapter's own) can only refuse more."""
    if not evaluation.verdicts:
        return []
    try:
        bounds = Bounds(**{name.replace("-", "_"): value for name, value in evaluation.bounds.items()})
    except TypeError:
        bounds = None
    if bounds is None or not evaluation.bounds:
        return [f"its {FILE} does not say by which bounds it was judged; evaluate it again"]
    written = {one.gate: (one.passed, one.optional) for one in evaluation.verdicts}
    follow = {one.gate: (one.passed, one.optional) for one in gates.verdicts(evaluation, bounds)}
    if differing := [gate for gate, verdict in follow.items() if written.get(gate) != verdict]:
        return [
            f"the verdict of {', '.join(differing)} in its {FILE} does not follow from what was measured: it was"
            " changed, or judged by other rules; evaluate it again"
        ]
    return []


def _inconsistent(name: Name, artifact: Path, files: Mapping[str, FileDigest], found: Found) -> list[str]:
    if name.kind == "adapter":
        return []  # not every adapter was trained here
    manifest, candidate = found.manifest, found.evaluation.candidate
    if "config.json" not in files:
        return ["it has no config.json; is it the directory of a checkpoint?"]
    if manifest is None:
        if candidate.quantization == UNQUANTIZED and not _is_quantized(artifact):
            return []
        return [f"it is quantized and has no {MANIFEST} that says how; make it with tollgate-worker quantize"]
    wrong: list[str] = []
    if manifest.recipe != candidate.recipe:
        wrong.append(
            f"its {MANIFEST} says the recipe {manifest.recipe}, and its evaluation {candidate.recipe};"
            " measurements; evaluate it again"
        )
    if manifest.quantization not in (None, candidate.quantization):
        wrong.append(
            f"its {MANIFEST} says {manifest.quantization}, and its evaluation measured {candidate.quantization};"
            " make it again with tollgate-worker quantize"
        )
    reference, base = found.evaluation.reference.digest, manifest.origin.digest
    merged = manifest.adapter is not None
    if reference is not None and base is not None and reference != base and not merged:
        wrong.append(
            f"it was made from {manifest.origin.name} ({base}), and was evaluated against another checkpoint"
            f" ({found.evaluation.reference.name}, {reference}); evaluate it against what it was made from"
        )
    return wrong


def _manifest(artifact: Path) -> tuple[Manifest | None, Mapping[str, Any] | None]:
    path = artifact / MANIFEST
    try:
        with path.open("rb") as file:
            content = file.read(MOST_MANIFEST)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        raise WrongUsage(f"{path} cannot be read: {error.strerror}") from None
    try:
        return Manifest.model_validate_json(content), json.loads(content)
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, first["loc"])) or "the file"
        raise WrongUsage(f"{path} does not say how the artifact was made: {where}: {first['msg']}") from None


def _is_quantized(artifact: Path) -> bool:
    try:
        return "quantization_config" in json.loads((artifact / "config.json").read_text())
    except (OSError, ValueError, TypeError):
        return False
