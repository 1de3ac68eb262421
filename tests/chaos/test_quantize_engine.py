"""Versions made in the real quantization environment, and what real vLLM makes of them."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.launching import ROOT
from workers.demo.broken import break_artifact
from workers.evaluation.engine import Served, serving
from workers.quantization.manifest import read_manifest
from workers.registry.digest import digest_of_artifact
from workers.weight_files import read_header

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

MODELS = ROOT / "var/models"
BASE = MODELS / "scribe"
WITHIN = 400.0  # seconds for one command, on cores that others use too
FEW = ("--samples", "2", "--length", "128")
TEXT = '''def read(path):
    """Return the content of a file."""
    with open(path) as file:
        return file.read()
'''


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "workers.cli", "quantize", *map(str, arguments)]


def quantize(
    *arguments: str | Path, threads: str = "2", limit: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": threads},
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
        preexec_fn=limit,
    )


def nats_per_token(served: Served) -> float:
    """How surprising the served model finds a plain piece of source code."""
    body = {"model": served.model, "prompt": TEXT, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    request = urllib.request.Request(
        f"{served.url}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
        tokens = json.load(answer)["choices"][0]["prompt_logprobs"][1:]
    return -sum(next(iter(token.values()))["logprob"] for token in tokens) / len(tokens)


def surprise(artifact: Path, tmp_path: Path) -> float:
    with serving(str(artifact), name="scribe", log=tmp_path / f"{artifact.name}.log", context=512) as served:
        return nats_per_token(served)


def test_a_killed_run_goes_on_and_makes_the_same_artifact_which_answers(tmp_path: Path) -> None:
    killed, other = tmp_path / "killed", tmp_path / "other"
    mixed = (BASE, "--recipe", "mixed", *FEW, "--out")
    with subprocess.Popen(command(*mixed, killed), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not _measured(tmp_path):
            assert process.stderr.readline(), "it ended before a layer was measured"
        process.send_signal(signal.SIGKILL)
    assert not killed.exists()

    resumed = quantize(*mixed, killed)
    assert resumed.returncode == 0, resumed.stderr
    assert "sensitivity: 0 of" not in resumed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]

    again = quantize(*mixed, other, threads="1")
    assert again.returncode == 0, again.stderr
    assert digest_of_artifact(killed) == digest_of_artifact(other)
    manifest = read_manifest(killed)
    assert {layer.bits for layer in manifest.layers} == {4, 8}
    assert manifest.bits_per_weight < 8

    broken = tmp_path / "broken"
    break_artifact(MODELS / "scribe-int4", broken)
    assert surprise(killed, tmp_path) < math.log(100)  # it answers as well as the base does, about 45
    assert surprise(broken, tmp_path) > math.log(1000)


def _measured(directory: Path) -> bool:
    return any(path.stat().st_size for path in directory.glob(".killed.*.kept"))


def test_a_full_disk_leaves_the_old_version(tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(MODELS / "scribe-int8", out)
    before = digest_of_artifact(out)

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    done = quantize(BASE, "--recipe", "fp8", "--out", out, "--force", limit=small)

    assert done.returncode == 1
    assert "no room left" in done.stderr
    assert digest_of_artifact(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_weights_that_are_not_numbers_are_refused_before_work(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(BASE, base)
    tensor = read_header(base / "model.safetensors")[-1]
    with (base / "model.safetensors").open("r+b") as file:
        file.seek(tensor.end - 2)
        file.write(b"\xc0\x7f")  # NaN in bfloat16

    done = quantize(base, "--recipe", "fp8", "--out", tmp_path / "out")

    assert done.returncode == 2
    assert f"{tensor.name} holds NaN" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_an_adapter_is_merged_before_awq_and_texts_are_the_users(tmp_path: Path) -> None:
    texts, out = tmp_path / "texts.jsonl", tmp_path / "out"
    texts.write_text("".join(json.dumps({"prompt": TEXT, "completion": str(number)}) + "\n" for number in range(20)))
    options = ("--adapter", MODELS / "scribe-sql", "--merge", "--calibration", texts, *FEW)

    done = quantize(BASE, "--recipe", "w4a16-awq", *options, "--out", out)

    assert done.returncode == 0, done.stderr
    manifest = read_manifest(out)
    assert manifest.adapter is not None
    assert (manifest.adapter.name, manifest.adapter.merged) == ("scribe-sql", True)
    assert manifest.calibration is not None
    assert manifest.calibration.files is not None
    assert quantize(BASE, "--recipe", "w4a16-awq", *options, "--out", out, "--if-needed").stderr.endswith(
        "up to date\n"
    )
