"""Engines that are served for a measurement: there when the block begins, gone when it ends, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest

from tests.chaos.launching import FAKE_ENGINE, environment
from tests.eventually import WITHIN, eventually
from workers.errors import WorkerToolError
from workers.evaluation.engine import CannotServe, serving

SERVE = """
import sys, time
from pathlib import Path
from workers.evaluation.engine import serving

with serving("model", name="tiny@base", log=Path("engine.log"), context=512) as served:
    print(served.pid, flush=True)
    time.sleep(600)
"""


class Fake:
    """An engine's Python that is the fake engine, and a mark in the environment of all it spawns."""

    def __init__(self, root: Path) -> None:
        self.mark = uuid.uuid4().hex
        self.python = root / "engine-python"
        self.python.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE_ENGINE} "$@"\n')
        self.python.chmod(0o755)

    def processes(self) -> list[int]:
        found: list[int] = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                environ = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue  # it ended meanwhile
            if self.mark.encode() in environ and int(entry) != os.getpid():
                found.append(int(entry))
        return found


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake(tmp_path)
    monkeypatch.setenv("TOLLGATE_ENGINE_PYTHON", str(fake.python))
    monkeypatch.setenv("TOLLGATE_TEST_MARK", fake.mark)
    return fake


def test_it_answers_while_the_block_runs_and_is_gone_after_it(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_OFFSPRING", "1")
    monkeypatch.setenv("FAKE_STUBBORN", "1")
    with serving("model", name="tiny@base", log=tmp_path / "engine.log", context=512) as served:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{served.url}/v1/models", timeout=WITHIN) as answer:
            assert b"tiny@base" in answer.read()
        assert served.pid in fake.processes()
        assert len(fake.processes()) == 4  # the guard, the engine, and two that tried to get away
    assert fake.processes() == []


def test_it_is_gone_when_the_block_is_left_by_an_interrupt(fake: Fake, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        serving("model", name="tiny@base", log=tmp_path / "engine.log", context=512),
    ):
        raise KeyboardInterrupt
    assert fake.processes() == []


def test_a_killed_measurement_leaves_no_engine(fake: Fake, tmp_path: Path) -> None:
    measuring = subprocess.Popen(
        [sys.executable, "-c", SERVE], cwd=tmp_path, env=environment(str(fake.python)), stdout=subprocess.PIPE
    )
    assert measuring.stdout is not None
    with measuring.stdout:
        assert int(measuring.stdout.readline()) in fake.processes()
    measuring.send_signal(signal.SIGKILL)
    measuring.wait(WITHIN)
    eventually(lambda: not fake.processes(), "the engine and its guard are gone")


def test_an_engine_that_ends_is_an_error_with_its_last_words(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_EXIT", "3")
    with (
        pytest.raises(CannotServe, match=r"status 3(.|\n)*the fake engine has no weights"),
        serving("model", name="tiny@base", log=tmp_path / "engine.log", context=512),
    ):
        pass


def test_an_engine_that_never_answers_is_given_up(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SILENT", "1")
    with (
        pytest.raises(CannotServe, match="no answer within 1 s"),
        serving("model", name="tiny@base", log=tmp_path / "engine.log", context=512, start_within=1.0),
    ):
        pass
    assert fake.processes() == []


def test_a_missing_environment_says_how_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_ENGINE_PYTHON", str(tmp_path / "nothing"))
    with (
        pytest.raises(WorkerToolError, match="TOLLGATE_ENGINE_PYTHON"),
        serving("model", name="tiny@base", log=tmp_path / "engine.log", context=512),
    ):
        pass
