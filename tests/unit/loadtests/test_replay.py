"""A trace replayed against a stand-in: what the worker got is what was recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def worker() -> Generator[str]:
    """A stand-in in a process of its own: a replay is one, and waits for its answers."""
    command = [sys.executable, "-m", "loadtests.standin", "--model", "m", "--context", "100000"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().split()[1]}"
        process.terminate()


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    rows = [
        {"timestamp": 100 * n, "input_length": 700 + n, "output_length": 5 + n, "hash_ids": [0, n]} for n in range(1, 9)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def replay(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests.replay", *words, "--model", "m"]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("how", [[], ["--processes", "2"], ["--no-stream"]])
def test_every_token_that_was_recorded_is_asked_for_and_given(worker: str, trace: Path, how: list[str]) -> None:
    done = replay(trace, worker, "--endpoint", "completions", "--format", "json", *how)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["requests"], found["errors"]) == (8, {})
    assert found["tokens"]["prompt_tokens"] == found["trace"]["input_tokens"] == sum(700 + n for n in range(1, 9))
    assert found["tokens"]["completion_tokens"] == found["trace"]["output_tokens"] == sum(5 + n for n in range(1, 9))
    assert found["trace"]["shared_input_tokens"] == 7 * 512
    assert found["seconds"] > 0.65  # the last one is asked 0.7 s after the first, by another clock than this


def test_results_are_printed_written_and_drawn(worker: str, trace: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "r.json", tmp_path / "r.png"
    done = replay(trace, worker, "--speed", "4", "--requests", "4", "--json", out, "--plot", picture)
    assert done.returncode == 0, done.stderr
    assert "4 requests in" in done.stdout
    assert "answer complete" in done.stdout
    assert json.loads(out.read_text())["trace"]["seconds"] == pytest.approx(0.075)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_warm_up_does_not_count(worker: str, trace: Path) -> None:
    done = replay(trace, worker, "--warmup", "0.35", "--format", "json")
    assert json.loads(done.stdout)["requests"] == 4


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (["--speed", "0"], "speed must be above 0"),
        (["--speed", "2", "--rate", "2"], "not allowed with"),
        (["--processes", "9"], "among 1 to 8"),
        (["--extra-body", "[]"], "write a JSON object"),
    ],
)
def test_wrong_usage_is_said(trace: Path, how: list[str], said: str) -> None:
    done = replay(trace, "http://127.0.0.1:9", *how)
    assert done.returncode == 2
    assert said in done.stderr


def test_what_is_no_trace_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello\n")
    done = replay(tmp_path / "x", "http://127.0.0.1:9")
    assert (done.returncode, "line 1: neither" in done.stderr) == (2, True)


def test_a_target_that_is_not_there_is_no_measurement(trace: Path) -> None:
    done = replay(trace, "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "nothing was measured" in done.stderr
