"""Small artifacts with their evaluations, and what it takes to register them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workers.evaluation.bounds import NAMES
from workers.evaluation.result import Conditions, Evaluation, Interval, Perplexity, Subject, Verdict
from workers.registry.digest import digest_of_artifact
from workers.registry.registration import Asked
from workers.registry.store import Name

BASE = f"sha256:{'ba' * 32}"
NAME = Name("version", "scribe", "int8")
AT = "2026-11-21T12:00:00+00:00"
PASSED = Verdict(gate="divergence", passed=True, measured="0.002", bound="at most 0.01", reason="")
FAILED = Verdict(gate="same-top", passed=False, measured="93 %", bound="at least 96 %", reason="too few")
UNJUDGED = Verdict(gate="task sql", passed=None, measured="", bound="at most 1 point", reason="no examples")
MANIFEST: dict[str, Any] = {
    "format": 2,
    "recipe": "w8a8",
    "quantization": "w8a8",
    "base": {"name": "scribe", "digest": BASE, "revision": "c0ffee"},
    "adapter": None,
    "calibration": {"sha256": "ca" * 32, "windows": 32},
    "libraries": {"llmcompressor": "0.14.0"},
    "requires": {"compute_capability": 7.5, "cpu": True, "cpu_flags": ["avx2"], "weight_bytes": 5_000_001},
}
MODELS = """\
# what is served
models:
  scribe:
    context: 2048
    versions:
      fp8: {artifact: var/fp8, quantization: fp8, quality: 0.998}   # on Ada
"""


def artifact(directory: Path, content: str = "weights", manifest: dict[str, Any] | None = MANIFEST) -> Path:
    files = {
        "config.json": json.dumps({"max_position_embeddings": 2048, "quantization_config": {}}),
        "model.safetensors": content,
        "sub/more.safetensors": content[::-1],
    }
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    if manifest is not None:
        (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def evaluation(directory: Path, of: Path, *verdicts: Verdict, **candidate: Any) -> Path:
    """The evaluation of an artifact, in a directory of its own."""
    subject: dict[str, Any] = {
        "name": "scribe@int8",
        "artifact": str(of),
        "digest": digest_of_artifact(of),
        "recipe": "w8a8",
        "quantization": "w8a8",
        "weight_bytes": 5_000_000,
        "bits_per_weight": 8.1,
    }
    reference = subject | {"name": "scribe", "digest": BASE, "recipe": None, "quantization": "none"}
    found = Evaluation(
        candidate=Subject(**subject | candidate),
        reference=Subject(**reference),
        conditions=Conditions(
            at=AT,
            tollgate="0.1.0",
            engine="vllm 0.32.0",
            device="AMD EPYC",
            libraries={"torch": "2.13.0+cpu"},
            seed=1,
            texts={"held-out": "aa"},
        ),
        perplexity=Perplexity(
            tokens=100, reference=10.0, candidate=10.02, ratio=Interval(value=1.002, low=1.0, high=1.003)
        ),
        verdicts=verdicts or (PASSED,),
        bounds=dict.fromkeys(NAMES),
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "evaluation.json").write_text(found.to_json())
    return directory


def config(directory: Path, models: str = MODELS) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "models.yaml").write_text(models)
    return directory


def asked(artifact: Path, evaluation: Path, **changes: Any) -> Asked:
    plain: dict[str, Any] = {
        "artifact": artifact,
        "evaluation": evaluation,
        "name": NAME,
        "by": "ada",
        "at": AT,
        "tollgate": "0.1.0",
    }
    return Asked(**plain | changes)
