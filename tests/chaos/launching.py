"""Runs `tollgate-worker launch` on fake engines and finds every process that came of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.config.published import PUBLISHED_KEYS
from tests.eventually import WITHIN, eventually
from tests.ports import reserved_port

ROOT = Path(__file__).resolve().parents[2]
FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")


def environment(engine_python: str) -> dict[str, str]:
    """Ours, for a command that runs in another directory."""
    paths = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
    return {**os.environ, "PYTHONPATH": paths, "TOLLGATE_ENGINE_PYTHON": engine_python}


class Site:
    """A directory with a configuration of fake workers, and a mark in the environment of whatever they spawn."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mark = uuid.uuid4().hex
        self.workers: dict[str, dict[str, Any]] = {}
        self.python = root / "engine-python"
        self.python.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE_ENGINE} "$@"\n')
        self.python.chmod(0o755)
        checkpoint = root / "registry/tiny/base"
        checkpoint.mkdir(parents=True)
        (checkpoint / "config.json").write_text("{}")
        self.version: dict[str, Any] = {"artifact": "registry/tiny/base"}

    def worker(self, name: str, **env: str) -> int:
        """Adds one to the fleet and returns its port."""
        port = reserved_port()
        self.workers[name] = {
            "name": name,
            "engine": "vllm",
            "serves": "tiny@base",
            "gpu": "cpu",
            "launch": {"port": port, "env": {"TOLLGATE_TEST_MARK": self.mark, **env}},
        }
        return port

    def write(self) -> Path:
        config = self.root / "router_config"
        config.mkdir(exist_ok=True)
        written = {
            "gpus": {"cpu": {"hourly_usd": 0.09}},
            "models": {"tiny": {"context": 512, "versions": {"base": self.version}}},
            "workers": list(self.workers.values()),
            "tenants": {
                "support": {"keys": [{"id": "demo", "sha256": sha256(PUBLISHED_KEYS[0].encode()).hexdigest()}]}
            },
            "probe": {"every": "200ms"},
        }
        (config / "fleet.yaml").write_text(json.dumps(written))  # JSON is YAML
        return config

    def launch(self, *arguments: str, under: str | None = None) -> Launcher:
        """Starts the launcher in this directory; `under` is the engine's Python, empty for the checkout's own."""
        python = str(self.python) if under is None else under
        return Launcher(self.root, [*arguments, "--config", str(self.write())], python)

    def log(self, name: str) -> str:
        return (self.root / f"var/log/workers/{name}.log").read_text()

    def processes(self) -> dict[int, str]:
        """Everything alive that carries the mark: guards, engines and their offspring, with their command lines."""
        found: dict[int, str] = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                if self.mark.encode() in Path(f"/proc/{entry}/environ").read_bytes():
                    found[int(entry)] = Path(f"/proc/{entry}/cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it ended meanwhile
        return found

    def guards(self) -> list[int]:
        return [pid for pid, command in self.processes().items() if "guard.py" in command]

    def engines(self) -> list[int]:
        """The engines' own processes, without what they spawned."""
        guards = self.guards()
        return [pid for pid in self.processes() if pid not in guards and parent(pid) in guards and leads_a_group(pid)]

    def expect_nothing_left(self) -> None:
        eventually(lambda: not self.processes(), "every process of the workers is gone")


class Launcher:
    """The running command, its changes as they come."""

    def __init__(self, directory: Path, arguments: list[str], python: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "launch", *arguments, "--format", "json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a process group of its own, as a shell gives to each command
            cwd=directory,
            env=environment(python),
        )
        self._changes: dict[str, list[dict[str, Any]]] = {}  # by worker, those that `until` has not returned
        self._errors: list[str] = []
        self._readers = [threading.Thread(target=reader, daemon=True) for reader in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def until(self, state: str, worker: str = "w", within: float = WITHIN) -> dict[str, Any]:
        """The next change of `worker` to `state`; its changes before that one are dropped."""

        def found() -> dict[str, Any] | None:
            ended = not self._readers[0].is_alive()
            changes = self._changes.setdefault(worker, [])
            for at, change in enumerate(changes):
                if change["state"] == state:
                    del changes[: at + 1]
                    return change
            assert not ended, f"the launcher ended before {worker} was {state}\n{self.errors}"
            assert not any(change["state"] == "failed" for change in changes), f"{worker} was given up: {changes[-1]}"
            return None

        return eventually(found, f"{worker} is {state}", within)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def status(self, within: float = WITHIN) -> int:
        """Waits for the end and returns the exit status."""
        return self.process.wait(within)

    @property
    def errors(self) -> str:
        """Standard error as far as it came; all of it once the launcher has ended."""
        if self.process.poll() is not None:
            self._readers[1].join(WITHIN)
        return "".join(self._errors)

    def close(self) -> None:
        """Ends it, whatever the test left running."""
        self.process.kill()
        self.process.wait(WITHIN)
        for reader in self._readers:
            reader.join(WITHIN)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            change = json.loads(line)
            self._changes.setdefault(change["worker"], []).append(change)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._errors.append(line)


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def leads_a_group(pid: int) -> bool:
    """True for what the guard started; an escaped child leads a session instead."""
    try:
        return os.getpgid(pid) == pid and os.getsid(pid) != pid
    except ProcessLookupError:
        return False
