from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.cli import main
from workers.demo_models import CHECKPOINTS, is_same

NAMES = {"scribe", "scribe-mini", "scribe-sql", "scribe-support"}
SIZE_LIMIT = 14 * 2**20


def test_unpacking_gives_the_shipped_files(tmp_path: Path) -> None:
    assert main(["demo-models", "--out", str(tmp_path)]) == 0

    assert {path.name for path in tmp_path.iterdir()} == NAMES
    assert all(is_same(CHECKPOINTS / name, tmp_path / name) for name in NAMES)


def test_unpacking_again_writes_only_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["demo-models", "--out", str(tmp_path)])
    (tmp_path / "scribe" / "config.json").write_text("{}")
    capsys.readouterr()

    assert main(["demo-models", "--out", str(tmp_path)]) == 0

    said = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'scribe'} written" in said
    assert sum(line.endswith("is up to date") for line in said) == len(NAMES) - 1
    assert is_same(CHECKPOINTS / "scribe", tmp_path / "scribe")


def test_a_file_too_many_is_a_difference(tmp_path: Path) -> None:
    main(["demo-models", "--out", str(tmp_path)])
    (tmp_path / "scribe" / "model-00002.safetensors").touch()

    assert not is_same(CHECKPOINTS / "scribe", tmp_path / "scribe")


def test_rebuilding_needs_the_quantization_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOLLGATE_QUANTIZE_PYTHON", raising=False)

    assert main(["demo-models", "--rebuild"]) == 1
    assert "make quantize-env" in capsys.readouterr().err


def test_the_larger_model_is_better_and_both_are_far_better_than_counting_tokens() -> None:
    scribe, mini = (
        json.loads((CHECKPOINTS / name / "model-card.json").read_text())["examination"]
        for name in ("scribe", "scribe-mini")
    )

    assert scribe["perplexity"] < 0.8 * mini["perplexity"]
    assert mini["perplexity"] < 0.25 * mini["unigram_perplexity"]
    assert scribe["held_out_tokens"] == mini["held_out_tokens"]


def test_the_shipped_checkpoints_stay_small() -> None:
    assert sum(path.stat().st_size for path in CHECKPOINTS.rglob("*") if path.is_file()) < SIZE_LIMIT
