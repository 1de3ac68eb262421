"""Evaluations that are told to end, or killed, while an engine runs for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.launching import FAKE_ENGINE, environment
from tests.eventually import WITHIN, eventually
from tests.unit.workers.evaluation.test_subject import checkpoint


class Evaluating:
    """The command on a fake engine that starts and never answers, in a directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mark = uuid.uuid4().hex
        python = root / "engine-python"
        # It is asked for its libraries' versions before anything else; an engine is what has a module to run.
        python.write_text(
            f'#!/bin/sh\n[ "$1" = -I ] && exit 0\nexec {sys.executable} {FAKE_ENGINE} "$@"\n', encoding="utf-8"
        )
        python.chmod(0o755)
        for name in ("base", "int8"):
            checkpoint(root / name, {"a.weight": ("BF16", [10], 20)})
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "workers.cli", "evaluate", "--quick"),
                *("--candidate", "int8", "--reference", "base", "--out", "out"),
            ],
            cwd=root,
            env=environment(str(python)) | {"FAKE_SILENT": "1", "TOLLGATE_TEST_MARK": self.mark},
            stderr=subprocess.DEVNULL,
        )

    def engines(self) -> list[int]:
        found: list[int] = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                marked = self.mark.encode() in Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue  # it ended meanwhile
            if marked and int(entry) != self.process.pid:
                found.append(int(entry))
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait(WITHIN)


@pytest.fixture
def evaluating(tmp_path: Path) -> Iterator[Evaluating]:
    running = Evaluating(tmp_path)
    yield running
    running.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_an_evaluation_leaves_nothing(evaluating: Evaluating, number: signal.Signals) -> None:
    log = evaluating.root / "var/log/evaluate/reference.log"
    eventually(lambda: log.exists() and b"fake engine: up" in log.read_bytes(), "the engine runs", within=90.0)
    assert len(evaluating.engines()) == 2  # and its guard
    evaluating.process.send_signal(number)
    status = evaluating.process.wait(WITHIN)
    assert status == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    eventually(lambda: not evaluating.engines(), "the engine and its guard are gone")
    assert not (evaluating.root / "out").exists()
