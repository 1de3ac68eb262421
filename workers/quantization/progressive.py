"""`--recipe progressive`: each step of the ladder made, judged, and the last that passed shipped, byte for byte.

What it finds is kept in OUT.ladder beside the output: each rung with its evaluation, so that an interrupted run goes on
where it was. Artifacts that are not needed any more are removed at the end, evaluations and ladder.json stay.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from workers.directories import replaced
from workers.errors import WorkerToolError, WrongUsage
from workers.quantization.gate import Gate, Judged
from workers.quantization.ladder import Steps, Try, next_move
from workers.registry.digest import digest_of_artifact

RECORD = "ladder.json"
ASKED = "asked.json"
UNSUITED = 2  # the exit code of a recipe that refuses this base

Make = Callable[[str, Path], int]  # recipe, where it goes; the exit code


@dataclass(frozen=True, slots=True)
class Rung:
    """One recipe's: `digest` is None where it could not be made of this base."""

    recipe: str
    digest: str | None
    passed: bool
    reasons: tuple[str, ...]


def descend(
    base: Path,
    out: Path,
    steps: Steps,
    asked: Mapping[str, object],
    make: Make,
    gate: Gate,
    reference: str | None = None,
) -> tuple[str | None, tuple[Rung, ...]]:
    """The recipe that was shipped to `out` (None: none passed, and `out` is as it was), and what was tried.

    `asked` is what the rungs' evaluations depend on beside their artifacts: others are forgotten. `reference` is the
    recipe of what they are held against, where that is not the base."""
    work = working_directory(out)
    _forget_others(work, asked)
    against = base if reference is None else _reference(reference, work, make)
    rungs: dict[str, Rung] = {}
    while True:
        move = next_move(steps, {name: rung.passed for name, rung in rungs.items()})
        if not isinstance(move, Try):
            break
        rungs[move.recipe] = _climb(move.recipe, against, work, make, gate)
        _say(rungs[move.recipe])
    if move.recipe is not None:
        _ship(work / move.recipe / "artifact", out)
    tried = tuple(rungs.values())
    _record(work, move.recipe, tried, asked)
    for recipe in (*rungs, *([reference] if reference else [])):
        shutil.rmtree(work / recipe / "artifact", ignore_errors=True)
    return move.recipe, tried


def is_descended(out: Path, asked: Mapping[str, object]) -> bool:
    """Whether `out` is what a ladder of exactly this has shipped."""
    try:
        record = json.loads((working_directory(out) / RECORD).read_text())
        shipped = next((rung for rung in record["rungs"] if rung["recipe"] == record["shipped"]), None)
        return bool(shipped) and record["asked"] == asked and shipped["digest"] == digest_of_artifact(out)
    except (OSError, ValueError, KeyError, TypeError, WorkerToolError):
        return False


def working_directory(out: Path) -> Path:
    return out.parent / f"{out.name}.ladder"


def _reference(recipe: str, work: Path, make: Make) -> Path:
    artifact = work / recipe / "artifact"
    if status := make(recipe, artifact):
        raise WorkerToolError(f"{recipe} was not made (exit {status}), see above")
    return artifact


def _climb(recipe: str, reference: Path, work: Path, make: Make, gate: Gate) -> Rung:
    artifact = work / recipe / "artifact"
    print(f"ladder: {recipe}", file=sys.stderr, flush=True)
    status = make(recipe, artifact)
    if status == UNSUITED:
        return Rung(recipe, None, False, ("it cannot be made of this base, see above",))
    if status:
        raise WorkerToolError(f"{recipe} was not made (exit {status}), see above; run the same command again to go on")
    digest = digest_of_artifact(artifact)
    found: Judged = gate(artifact, reference, work / recipe / "evaluation", digest)
    return Rung(recipe, digest, found.passed, found.reasons)


def _ship(artifact: Path, out: Path) -> None:
    with replaced(out) as directory:
        shutil.copytree(artifact, directory, dirs_exist_ok=True)


def _forget_others(work: Path, asked: Mapping[str, object]) -> None:
    path = work / ASKED
    try:
        same = json.loads(path.read_text()) == asked
    except (OSError, ValueError):
        same = False
    if same:
        return
    work.mkdir(parents=True, exist_ok=True)
    others = [other for other in work.iterdir() if other != path and not other.name.endswith(".partial")]
    if others and not path.is_file():
        raise WrongUsage(
            f"{work} is where the ladder works, and holds something else; move that, or choose another --out"
        )
    for other in others:
        shutil.rmtree(other) if other.is_dir() else other.unlink()
    _write(path, asked)


def _record(work: Path, shipped: str | None, rungs: Sequence[Rung], asked: Mapping[str, object]) -> None:
    _write(work / RECORD, {"shipped": shipped, "rungs": [asdict(rung) for rung in rungs], "asked": asked})


def _write(path: Path, content: object) -> None:
    """Whole or not at all."""
    scratch = path.parent / f".{path.name}.partial"
    scratch.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    scratch.replace(path)


def _say(rung: Rung) -> None:
    verdict = "passed" if rung.passed else f"did not pass: {'; '.join(rung.reasons)}"
    print(f"ladder: {rung.recipe} {verdict}", file=sys.stderr, flush=True)
