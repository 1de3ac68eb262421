from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.workers.quantization.checkpoints import SHAPES, adapter, checkpoint, safetensors
from tests.unit.workers.quantization.test_manifest import MADE
from workers.cli import main
from workers.environments import PACKAGE_ROOT
from workers.quantization.job import Job
from workers.quantization.lineage import describe
from workers.quantize import SAMPLES, SEED, THREADS


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "base")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["quantize", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def handed(tmp_path: Path, *arguments: str | Path) -> Job:
    """What the quantization environment is started with."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "workers.cli", "quantize", *arguments],
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT), "TOLLGATE_QUANTIZE_PYTHON": str(python)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    *started, job = done.stdout.splitlines()
    assert started == ["-m", "workers.quantization.apply"]
    return Job.model_validate_json(job)


def test_without_its_environment_nothing_is_done(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOLLGATE_QUANTIZE_PYTHON", raising=False)
    out = tmp_path / "out"

    for recipe in ("fp8", "progressive"):
        assert main(["quantize", str(base), "--recipe", recipe, "--out", str(out)]) == 1
        assert "make quantize-env" in capsys.readouterr().err
    assert not out.exists()


def test_an_unknown_recipe_is_refused_with_the_known_ones(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["quantize", str(base), "--recipe", "int3", "--out", "out"])

    assert stopped.value.code == 2
    assert "w4a16-gptq" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--samples", "--length", "--threads"])
def test_none_of_something_is_refused(base: Path, option: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["quantize", str(base), "--recipe", "w8a8", "--out", "out", option, "0"])

    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "w8a8", "--length", "2048"], "the model reads 1024 tokens at most"),
        (["--recipe", "mixed", "--bits", "3"], "between 4.125"),
        (["--recipe", "mixed", "--bits", "nan"], "between 4.125"),
        (["--recipe", "w8a8", "--calibration", "nothing.jsonl"], "no such file"),
        (["--recipe", "fp8", "--merge"], "name it with --adapter"),
        (["--recipe", "merged"], "--adapter DIR --merge"),
        (["--recipe", "merged", "--adapter", "nothing", "--keep"], "--adapter DIR --merge"),
        (["--recipe", "fp8", "--adapter", "nothing"], "needs --merge"),
        (["--recipe", "fp8", "--adapter", "nothing", "--keep"], "cannot be read"),
        (["--recipe", "progressive", "--ladder", "int3"], "no recipe of it"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_started(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert message in refused(capsys, base, "--out", tmp_path / "out", *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


def test_layers_that_the_groups_do_not_divide_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = checkpoint(tmp_path / "base", SHAPES | {"model.layers.0.mlp.up_proj.weight": (64, 96)})

    assert "up_proj.weight with 96" in refused(capsys, base, "--recipe", "w4a16-awq", "--out", tmp_path / "out")


def test_nf4_is_refused_where_the_engine_does_not_load_it(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_ENGINE_PYTHON", sys.executable)

    assert "--for-other-engine" in refused(capsys, base, "--recipe", "nf4", "--out", tmp_path / "out")
    job = handed(tmp_path, base, "--recipe", "nf4", "--for-other-engine", "--out", tmp_path / "out")
    assert job.recipe_name == "nf4"


def test_an_existing_output_is_kept_unless_forced(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()

    assert "--force" in refused(capsys, base, "--recipe", "fp8", "--out", out)


def test_a_current_output_is_kept_when_only_needed(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    fresh = {"parameters": {}, "base": describe(base), "adapter": None, "calibration": None}
    MADE.model_copy(update={"recipe": "fp8", "seed": SEED, "threads": THREADS, **fresh}).write(out)
    (out / "config.json").write_text("{}")
    arguments = ["quantize", str(base), "--recipe", "fp8", "--out", str(out), "--if-needed"]

    assert main(arguments) == 0
    (base / "model.safetensors").write_bytes(safetensors(SHAPES)[:-1] + b"x")
    assert handed(tmp_path, *arguments[1:]).base == describe(base)


def test_the_work_is_handed_to_the_quantization_environment(base: Path, tmp_path: Path) -> None:
    out, texts = tmp_path / "out", tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("text")

    plain = handed(tmp_path, base, "--recipe", "w8a8", "--out", out, "--seed", "7")
    calibrated = handed(
        tmp_path, base, "--recipe", "w8a8", "--out", out, "--calibration", texts, "--samples", "3", "--length", "64"
    )

    assert (plain.recipe_name, plain.directory, plain.out, plain.seed) == ("w8a8", base, out, 7)
    assert (plain.samples, plain.calibration, plain.calibration_digest) == (SAMPLES, (), None)
    assert (calibrated.samples, calibrated.length, calibrated.calibration) == (3, 64, (texts / "a.txt",))
    assert calibrated.calibration_digest is not None
    assert plain.asked != calibrated.asked


@pytest.mark.parametrize(("fate", "merged"), [("--merge", True), ("--keep", False)])
def test_an_adapter_is_merged_or_kept(base: Path, tmp_path: Path, fate: str, merged: bool) -> None:
    directory = adapter(tmp_path / "sql")

    job = handed(tmp_path, base, "--recipe", "fp8", "--out", tmp_path / "out", "--adapter", directory, fate)

    assert job.adapter is not None
    assert (job.adapter.merge, job.adapter.rank, job.asked.merged) == (merged, 4, merged)


def test_what_a_recipe_does_not_read_does_not_make_its_version_another(base: Path, tmp_path: Path) -> None:
    """FP8 has no calibration, so its samples do not matter; nor does the budget of mixed precision."""
    one = handed(tmp_path, base, "--recipe", "fp8", "--out", tmp_path / "out", "--samples", "3", "--bits", "5")
    other = handed(tmp_path, base, "--recipe", "fp8", "--out", tmp_path / "out")

    assert one.asked == other.asked
