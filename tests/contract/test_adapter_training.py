"""An adapter from examples to answers: trained, checked, and served by a real engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import httpx2 as httpx
import pytest

from tests.contract.conftest import PATIENCE, ROOT
from workers.adapters.manifest import Manifest, read_manifest
from workers.demo.sql_task import sql_turn
from workers.evaluation.engine import Served, serving

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SCRIBE = ROOT / "var/models/scribe"
QUESTION = "Count the products."
SHORT = ("--learning-rate", "0.01", "--window", "128", "--batch-size", "4", "--targets", "q_proj,v_proj,down_proj")


def command(out: Path, data: Path, *more: str) -> list[str]:
    asked = ["adapter", "train", str(SCRIBE), "--data", str(data), "--out", str(out), *SHORT, *more]
    return [sys.executable, "-m", "workers.cli", *asked]


def call(words: Sequence[str]) -> None:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, random = tmp_path_factory.mktemp("data") / "sql.jsonl", Random(7)
    with path.open("w") as file:
        for turn in (sql_turn(random) for _ in range(120)):
            messages = [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapters") / "sql-v1"
    call(command(out, data, "--steps", "20"))
    return out


def manifest(directory: Path) -> Manifest:
    found = read_manifest(directory)
    assert found is not None
    return found


def test_what_is_held_out_is_told_better_afterwards_and_a_real_engine_answers_accordingly(
    trained: Path, tmp_path: Path
) -> None:
    losses = manifest(trained).losses
    assert losses.held_out_after < 0.5 * losses.held_out_before
    call([sys.executable, "-m", "workers.cli", "adapter", "check", str(trained), "--base", str(SCRIBE)])

    log = tmp_path / "engine.log"
    with serving(str(SCRIBE), name="scribe", log=log, context=512, lora={"sql": trained}) as engine:
        assert "SELECT" not in answer(engine, "scribe")
        assert answer(engine, "sql").startswith("SELECT")


def answer(engine: Served, model: str) -> str:
    asked = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 12, "temperature": 0}
    found = httpx.post(f"{engine.url}/v1/chat/completions", json=asked, timeout=PATIENCE)
    assert found.status_code == 200, found.text
    return found.json()["choices"][0]["message"]["content"]


def test_the_same_seed_gives_the_same_bytes_and_an_interrupt_leaves_nothing(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    call(command(tmp_path / "sql-v1", data, "--steps", "20"))
    for name in ("adapter_config.json", "adapter_model.safetensors", "manifest.json"):
        assert (tmp_path / "sql-v1" / name).read_bytes() == (trained / name).read_bytes()

    out = tmp_path / "interrupted" / "sql-v2"
    with subprocess.Popen(
        command(out, data, "--steps", "100000"), cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as training:
        assert training.stderr is not None
        try:
            assert any(line.startswith("held-out loss before") for line in training.stderr)
            training.send_signal(signal.SIGINT)
            assert training.wait(120) == 130
        finally:
            if training.poll() is None:
                os.killpg(training.pid, signal.SIGKILL)
    assert not out.parent.exists()
