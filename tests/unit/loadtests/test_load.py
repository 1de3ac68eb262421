"""The command line of one measurement."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "how",
    [
        ["closed", "--connections", "2", "--seconds", "0.1"],
        ["closed", "--stream", "--connections", "2", "--seconds", "0.1"],
        ["open", "--rate", "50", "--seconds", "0.2", "--arrivals", "uniform"],
        ["paced", "--streams", "3", "--seconds", "0.1", "--tokens", "1000"],
        ["idle", "--streams", "3", "--seconds", "0.1", "--tokens", "1000"],
    ],
)
def test_prints_json_with_the_processs_cpu(how: list[str]) -> None:
    behaviour = '{"tokens": 1000, "pace": 0.01}' if how[0] in ("paced", "idle") else "{}"
    worker = [sys.executable, "-m", "loadtests.standin", "--model", "m", "--behaviour", behaviour]
    with subprocess.Popen(worker, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ) as standin:
        assert standin.stdout
        port = standin.stdout.readline().split()[1]
        mode, *options = how
        command = [sys.executable, "-m", "loadtests.load", mode, f"http://127.0.0.1:{port}", "--model", "m"]
        done = subprocess.run(
            [*command, *options, "--format", "json", "--pid", str(standin.pid)],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        standin.terminate()
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["errors"] == {}
    assert document["requests"] + document["events"] > 0
    assert document["cpu_seconds"] is not None


def load(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests.load", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["closed", "http://127.0.0.1:9", "--connections", "2", "--processes", "3"], "among 1 to 2"),
        (["open", "http://127.0.0.1:9", "--rate", "0.001"], "no request to send"),
        (["sideways", "http://127.0.0.1:9"], "invalid choice"),
    ],
)
def test_wrong_usage_is_said(words: list[str], said: str) -> None:
    done = load(*words)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_target_that_is_not_there_is_no_measurement() -> None:
    done = load("closed", "http://127.0.0.1:9", "--connections", "1")
    assert (done.returncode, "nothing was measured" in done.stderr) == (1, True)
