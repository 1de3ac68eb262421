from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.cli import main
from workers.environments import PACKAGE_ROOT
from workers.quantization.manifest import Manifest, digest_of
from workers.quantize import SAMPLES, SEED


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory = tmp_path / "base"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (directory / "tokenizer.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


def manifest(base: Path, recipe: str = "fp8", seed: int = SEED, samples: int = SAMPLES) -> Manifest:
    return Manifest(recipe, "FP8_DYNAMIC", base.name, digest_of(base), seed, samples, None, {"torch": "1"})


def test_without_its_environment_nothing_is_done(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOLLGATE_QUANTIZE_PYTHON", raising=False)
    out = tmp_path / "out"

    assert main(["quantize", str(base), "--recipe", "fp8", "--out", str(out)]) == 1

    assert "make quantize-env" in capsys.readouterr().err
    assert not out.exists()


def test_an_unknown_recipe_is_refused_with_the_known_ones(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["quantize", str(base), "--recipe", "int3", "--out", "out"])

    assert stopped.value.code == 2
    assert "w4a16-gptq" in capsys.readouterr().err


def test_no_samples_is_refused(base: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["quantize", str(base), "--recipe", "w8a8", "--out", "out", "--samples", "0"])

    assert stopped.value.code == 2


def test_an_existing_output_is_kept_unless_forced(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()

    assert main(["quantize", str(base), "--recipe", "fp8", "--out", str(out)]) == 2
    assert "--force" in capsys.readouterr().err


def test_a_current_output_is_kept_when_only_needed(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    manifest(base).write(out)

    assert main(["quantize", str(base), "--recipe", "fp8", "--out", str(out), "--if-needed"]) == 0


def test_the_work_is_handed_to_the_quantization_environment(base: Path, tmp_path: Path) -> None:
    python, out = tmp_path / "python", tmp_path / "out"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)

    done = subprocess.run(
        [sys.executable, "-m", "workers.cli", "quantize", base, "--recipe", "w8a8", "--out", out, "--seed", "7"],
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT), "TOLLGATE_QUANTIZE_PYTHON": str(python)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    handed = [*("-m", "workers.quantization.apply", str(base), "--recipe", "w8a8", "--out", str(out))]
    assert done.stdout.split() == [*handed, "--samples", str(SAMPLES), "--seed", "7"]
