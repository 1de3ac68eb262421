"""What is said of an artifact from its manifest and its evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.workers.evaluation.evaluations import divergence, task
from tests.unit.workers.evaluation.evaluations import evaluation as measured
from tests.unit.workers.registry.scene import MANIFEST, NAME, UNJUDGED, artifact, evaluation
from workers.evaluation.assemble import judged
from workers.evaluation.baseline import Tolerances
from workers.evaluation.bounds import EIGHT_BITS
from workers.evaluation.result import Evaluation, Interval, Perplexity
from workers.registry.digest import files_of_artifact
from workers.registry.lineage import Found, Refused, check, needs, quality, read_found
from workers.registry.record import Requires


def found(tmp_path: Path, manifest: dict[str, Any] | None, libraries: dict[str, str], **candidate: Any) -> Found:
    made = artifact(tmp_path / "made", manifest=manifest)
    read = read_found(made, evaluation(tmp_path / "proof", made, **candidate))
    conditions = read.evaluation.conditions.model_copy(update={"libraries": libraries})
    return read.model_copy(update={"evaluation": read.evaluation.model_copy(update={"conditions": conditions})})


def without_needs(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in MANIFEST.items() if key != "requires"} | changes


CPU, CUDA = {"torch": "2.13.0+cpu"}, {"torch": "2.11.0+cu130"}


WEIGHTS = 5_000_000


@pytest.mark.parametrize(
    ("manifest", "libraries", "machine", "expected"),
    [
        (MANIFEST, CPU, "x86_64", Requires(cpu_flags=("avx2",), memory_bytes=WEIGHTS + 1)),
        (MANIFEST, CUDA, "x86_64", Requires(driver="580", cpu_flags=("avx2",), memory_bytes=WEIGHTS + 1)),
        (without_needs(), CPU, "x86_64", Requires(cpu_flags=("avx2",), memory_bytes=WEIGHTS)),
        (without_needs(), CPU, "aarch64", Requires(memory_bytes=WEIGHTS)),
        (without_needs(), {"torch": "2.9.1+cu128"}, "x86_64", Requires(driver="525.60.13", memory_bytes=WEIGHTS)),
        (without_needs(), {}, "x86_64", Requires(memory_bytes=WEIGHTS)),
        (without_needs(requires={"cpu": False, "weight_bytes": 7}), {}, "x86_64", Requires(cpu=False, memory_bytes=7)),
        (None, {}, "x86_64", Requires(memory_bytes=WEIGHTS)),
    ],
)
def test_what_it_takes(
    tmp_path: Path, manifest: dict[str, Any] | None, libraries: dict[str, str], machine: str, expected: Requires
):
    told = needs(found(tmp_path, manifest, libraries), machine)
    assert told == expected.model_copy(update={"compute_capability": 7.5})


def test_an_unquantized_version_takes_any_gpu(tmp_path: Path):
    assert needs(found(tmp_path, None, {}, quantization="none"), "x86_64").compute_capability is None


@pytest.mark.parametrize(
    ("reference", "candidate", "expected"),
    [(10.0, 10.0, 1.0), (10.0, 9.9, 1.0), (10.0, 12.5, 0.8), (10.0, 1e9, 0.0), (10.0, 0.0, None), (None, 1.0, None)],
)
def test_quality_is_what_is_left_of_the_reference(
    tmp_path: Path, reference: float | None, candidate: float, expected: float | None
):
    measured = None
    if reference is not None:
        ratio = Interval(value=1.0, low=1.0, high=1.0)
        measured = Perplexity(tokens=1, reference=reference, candidate=candidate, ratio=ratio)
    read = found(tmp_path, MANIFEST, {}).evaluation
    assert quality(read.model_copy(update={"perplexity": measured})) == expected


def edited(**changes: Any) -> Evaluation:
    """One that has passed its gates, and was changed afterwards."""
    return judged(measured(), EIGHT_BITS, (), None, Tolerances()).model_copy(update=changes)


def refusal(tmp_path: Path, changed: Evaluation) -> str:
    made = artifact(tmp_path / "made")
    read = read_found(made, evaluation(tmp_path / "proof", made))
    kept = {"candidate": read.evaluation.candidate, "reference": read.evaluation.reference}
    read = read.model_copy(update={"evaluation": changed.model_copy(update=kept)})
    try:
        check(NAME, made, files_of_artifact(made), read, None)
    except Refused as refused:
        return str(refused)
    return ""


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (edited(), None),
        (edited(divergence=divergence(kld=0.5)), "divergence"),
        (edited(tasks=()), "tasks"),
        (edited(verdicts=edited().verdicts[:1]), "divergence"),
        (edited(tasks=(task(lost=40, p_value=0.0),)), "task sql"),
        (edited(bounds={}), "by which bounds"),
        (edited(bounds={"nonesuch": 1.0}), "by which bounds"),
        (edited(verdicts=(*edited().verdicts, UNJUDGED.model_copy(update={"passed": True}))), None),
    ],
)
def test_verdicts_have_to_follow_from_what_was_measured(tmp_path: Path, changed: Evaluation, named: str | None):
    said = refusal(tmp_path, changed)
    assert (named in said and "evaluate it again" in said) if named else not said
