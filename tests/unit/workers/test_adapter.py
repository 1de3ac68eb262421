from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.workers.adapters.files import adapter, base, loras
from workers.cli import main
from workers.environments import PACKAGE_ROOT


@pytest.fixture
def on(tmp_path: Path) -> Path:
    return base(tmp_path / "base")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    return path


def test_a_good_adapter_is_accepted(tmp_path: Path, on: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = adapter(tmp_path / "a", on, r=8, weights=loras(8))

    assert main(["adapter", "check", str(directory), "--base", str(on)]) == 0

    assert "engines can serve it" in capsys.readouterr().err


def test_a_bad_one_is_refused_in_words_and_in_json(
    tmp_path: Path, on: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = adapter(tmp_path / "a", on, use_dora=True)

    assert main(["adapter", "check", str(directory), "--base", str(on)]) == 1
    assert "error    features: " in capsys.readouterr().out

    assert main(["adapter", "check", str(directory), "--base", str(on), "--format", "json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["ok"] is False
    assert [one["what"] for one in verdict["findings"]] == ["features", "rank"]


def test_the_rank_is_held_against_the_one_that_is_given(tmp_path: Path, on: Path) -> None:
    directory = adapter(tmp_path / "a", on, r=32, weights=loras(32))

    assert main(["adapter", "check", str(directory), "--base", str(on), "--max-lora-rank", "16"]) == 1
    assert main(["adapter", "check", str(directory), "--base", str(on), "--max-lora-rank", "32"]) == 0


def test_what_versions_of_a_model_differ_in_is_said_of_each(
    tmp_path: Path, on: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = base(tmp_path / "other", {"rope_theta": 5})
    config = tmp_path / "config"
    config.mkdir()
    written = {
        "ledger": "none",
        "gpus": {"cpu": {"hourly_usd": 1}},
        "models": {"chat": {"context": 64, "versions": {"a": {"artifact": str(on)}, "b": {"artifact": str(other)}}}},
        "workers": [{"name": "w", "engine": "vllm", "serves": "chat@a", "gpu": "cpu", "launch": {"port": 8101}}],
        "tenants": {"t": {"keys": [{"id": "k", "sha256": "0" * 64}]}},
    }
    (config / "all.yaml").write_text(json.dumps(written))
    directory = adapter(tmp_path / "adapter", on, use_dora=True)
    monkeypatch.chdir(tmp_path)

    asked = ["adapter", "check", str(directory), "--model", "chat", "--config", str(config), "--format", "json"]
    assert main(asked) == 1

    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(one["level"], one["what"]) for one in found] == [
        ("error", "features"),
        ("error", "base (b)"),
        ("warning", "rank"),
    ]


@pytest.mark.parametrize(
    "asked",
    [
        [],
        ["check", "DIR"],
        ["check", "nothing", "--base", "BASE"],
        ["check", "DIR", "--base", "nothing"],
        ["train", "BASE", "--data", "nothing", "--out", "out"],
        ["train", "nothing", "--data", "DATA", "--out", "out"],
        ["train", "BASE", "--data", "DATA", "--out", "BASE"],
        ["train", "BASE", "--data", "DATA", "--out", "DIR"],
        ["train", "BASE", "--data", "DATA", "--out", "DATA/a/b"],
        ["train", "BASE", "--data", "DATA", "--out", "BASE/adapter"],
        ["train", "BASE", "--data", "DATA", "--out", "FULL", "--force"],
        ["train", "BASE", "--data", "DATA", "--out", "out", "--rank", "513"],
        ["train", "BASE", "--data", "DATA", "--out", "out", "--rank", "0"],
        ["train", "BASE", "--data", "DATA", "--out", "out", "--learning-rate", "nan"],
        ["train", "BASE", "--data", "DATA", "--out", "out", "--targets", "k_proj"],
        ["train", "BASE", "--data", "DATA", "--out", "out", "--steps", "3", "--epochs", "1"],
    ],
)
def test_wrong_usage_is_told_before_any_work(tmp_path: Path, on: Path, data: Path, asked: list[str]) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("years")
    names = {"BASE": str(on), "DATA": str(data), "DIR": str(adapter(tmp_path / "a", on)), "FULL": str(full)}
    words = ["/".join(names.get(part, part) for part in word.split("/")) for word in asked]
    try:
        status = main(["adapter", *words])
    except SystemExit as stopped:
        status = stopped.code

    assert status == 2
    assert not (tmp_path / "out").exists()


def test_the_work_is_handed_to_the_quantization_environment(tmp_path: Path, on: Path, data: Path) -> None:
    python, out = tmp_path / "python", tmp_path / "out"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    asked = ["train", on, "--data", data, "--out", out, "--targets", "up_proj,q_proj", "--steps", "7", "--rank", "16"]

    done = subprocess.run(
        [sys.executable, "-m", "workers.cli", "adapter", *asked, "--seed", "5", "--eval", data],
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT), "TOLLGATE_QUANTIZE_PYTHON": str(python)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    handed = done.stdout.split()
    assert handed[:3] == ["-m", "workers.adapters.train", str(on)]
    options = dict(zip(handed[3::2], handed[4::2], strict=True))
    assert options == {
        "--data": str(data),
        "--eval": str(data),
        "--out": str(out),
        "--targets": "q_proj,up_proj",
        "--rank": "16",
        "--batch-size": "8",
        "--learning-rate": "0.0002",
        "--window": "1024",
        "--seed": "5",
        "--threads": "2",
        "--device": "auto",
        "--format": "table",
        "--steps": "7",
    }
