from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from workers.errors import WorkerToolError, WrongUsage
from workers.quantization.gate import Judged
from workers.quantization.ladder import parse_ladder
from workers.quantization.progressive import RECORD, descend, is_descended, working_directory
from workers.registry.digest import digest_of_artifact

STEPS = parse_ladder("fp8/w8a8,w4a16-gptq")
ASKED: Mapping[str, object] = {"seed": 1}


class Workshop:
    """Makes artifacts of a few bytes, and judges them as it is told to."""

    def __init__(self, root: Path, **verdicts: bool) -> None:
        self.base, self.out = root / "base", root / "out"
        self.base.mkdir(exist_ok=True)
        self.verdicts = {name.replace("_", "-"): passed for name, passed in verdicts.items()}
        self.made: list[str] = []
        self.judged: list[str] = []
        self.exits: dict[str, int] = {}
        self.references: set[Path] = set()
        self.killed_before: str | None = None

    def make(self, recipe: str, out: Path) -> int:
        if (out / "config.json").is_file():
            return 0
        self.made.append(recipe)
        if recipe not in self.exits:
            out.mkdir(parents=True)
            (out / "config.json").write_text(recipe)
        return self.exits.get(recipe, 0)

    def gate(self, candidate: Path, reference: Path, out: Path, digest: str) -> Judged:
        assert digest == digest_of_artifact(candidate)
        self.references.add(reference)
        recipe = (candidate / "config.json").read_text()
        if recipe == self.killed_before:
            raise KeyboardInterrupt
        self.judged.append(recipe)
        out.mkdir(parents=True, exist_ok=True)
        (out / "evaluation.json").write_text("{}")
        return Judged(self.verdicts[recipe], () if self.verdicts[recipe] else ("divergence: too far",))

    def descend(self, asked: Mapping[str, object] = ASKED, reference: str | None = None) -> str | None:
        return descend(self.base, self.out, STEPS, asked, self.make, self.gate, reference)[0]


def test_the_last_that_passed_is_shipped_byte_for_byte_with_its_evaluation(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, fp8=False, w8a8=True, w4a16_gptq=False)

    assert workshop.descend() == "w8a8"

    assert [path.name for path in workshop.out.iterdir()] == ["config.json"]
    assert (workshop.out / "config.json").read_text() == "w8a8"
    work = working_directory(workshop.out)
    left = {str(path.relative_to(work)) for path in work.rglob("*") if path.is_file()}
    evaluations = {f"{name}/evaluation/evaluation.json" for name in ("fp8", "w8a8", "w4a16-gptq")}
    assert left == {"asked.json", RECORD, *evaluations}
    assert workshop.references == {workshop.base}
    rungs = json.loads((work / RECORD).read_text())["rungs"]
    assert [(rung["recipe"], rung["passed"], rung["reasons"]) for rung in rungs] == [
        ("fp8", False, ["divergence: too far"]),
        ("w8a8", True, []),
        ("w4a16-gptq", False, ["divergence: too far"]),
    ]


def test_where_nothing_passes_nothing_is_shipped_and_the_old_output_stays(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, fp8=False, w8a8=False)
    workshop.out.mkdir()
    (workshop.out / "config.json").write_text("old")

    assert workshop.descend() is None
    assert workshop.made == ["fp8", "w8a8"]
    assert (workshop.out / "config.json").read_text() == "old"
    assert not is_descended(workshop.out, ASKED)


def test_a_recipe_that_this_base_does_not_take_has_failed(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, fp8=True)
    workshop.exits = {"w4a16-gptq": 2}

    assert workshop.descend() == "fp8"


def test_a_recipe_that_breaks_stops_everything(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, fp8=True)
    workshop.exits = {"w4a16-gptq": 1}

    with pytest.raises(WorkerToolError, match="w4a16-gptq was not made"):
        workshop.descend()
    assert not workshop.out.exists()


def test_an_interrupted_descent_goes_on_where_it_was(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, fp8=True, w4a16_gptq=True)
    workshop.killed_before = "w4a16-gptq"
    with pytest.raises(KeyboardInterrupt):
        workshop.descend()
    workshop.killed_before = None

    assert workshop.descend() == "w4a16-gptq"
    assert workshop.made == ["fp8", "w4a16-gptq"]


def test_what_was_asked_otherwise_is_begun_anew(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, fp8=True, w4a16_gptq=True)
    workshop.killed_before = "w4a16-gptq"
    with pytest.raises(KeyboardInterrupt):
        workshop.descend()
    workshop.killed_before = None

    workshop.descend({"seed": 2})

    assert workshop.made == ["fp8", "w4a16-gptq", "fp8", "w4a16-gptq"]


def test_an_output_is_current_while_it_is_what_was_shipped(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, fp8=True, w4a16_gptq=False)
    workshop.descend()

    assert is_descended(workshop.out, ASKED)
    assert not is_descended(workshop.out, {"seed": 2})
    (workshop.out / "config.json").write_text("changed")
    assert not is_descended(workshop.out, ASKED)


def test_a_directory_of_somebody_elses_is_not_worked_in(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, fp8=True)
    work = working_directory(workshop.out)
    work.mkdir()
    (work / "thesis.txt").write_text("mine")

    with pytest.raises(WrongUsage, match="holds something else"):
        workshop.descend()
    assert (work / "thesis.txt").read_text() == "mine"


def test_versions_of_a_merged_adapter_are_held_against_the_merged_base(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, fp8=True, w4a16_gptq=False)

    assert workshop.descend(reference="merged") == "fp8"

    merged = working_directory(workshop.out) / "merged" / "artifact"
    assert workshop.made[0] == "merged"
    assert workshop.references == {merged}
    assert not merged.exists()


def test_without_its_reference_nothing_is_judged(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    workshop.exits = {"merged": 1}

    with pytest.raises(WorkerToolError, match="merged was not made"):
        workshop.descend(reference="merged")
    assert workshop.made == ["merged"]
