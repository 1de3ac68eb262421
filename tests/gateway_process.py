"""A real gateway process for tests: `tollgate serve` on a free port with a configuration written for the test."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

KEY = "sk-test-acme"
ADMIN_KEY = "sk-test-admin"
START_SECONDS = 30.0


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def configuration(workers: Mapping[str, str], **changes: Any) -> dict[str, Any]:
    """One model `tiny@v1` on the given workers (name -> URL), one tenant `acme`; `changes` replace top-level keys."""
    written: dict[str, Any] = {
        "server": {"host": "127.0.0.1", "port": 4000, "drain_seconds": 5},
        "ledger": "sqlite:///ledger.db",
        "probe": {"every": "200ms", "wait": "2s"},
        "admin": {"keys": [{"id": "test", "sha256": digest(ADMIN_KEY)}]},
        "gpus": {"cpu": {"hourly_usd": 3.6}},
        "models": {"tiny": {"context": 32768, "versions": {"v1": {"quantization": "fp8", "quality": 0.99}}}},
        "workers": [
            {"name": name, "url": url, "engine": "vllm", "serves": "tiny@v1", "gpu": "cpu"}
            for name, url in workers.items()
        ],
        "aliases": {"gpt-4o-mini": "tiny"},
        "tenants": {"acme": {"keys": [{"id": "k1", "sha256": digest(KEY)}]}},
    }
    return {**written, **changes}


class GatewayProcess:
    """`with GatewayProcess(directory, configuration(...)) as gateway:`; `gateway.url` answers when the block begins."""

    def __init__(self, directory: Path, written: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.config = directory / "config"
        self.config.mkdir(parents=True, exist_ok=True)
        self.write(written)
        self._environ = {**os.environ, **(environ or {})}
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self.log: list[dict[str, Any]] = []
        self.url = ""

    def write(self, written: Mapping[str, Any]) -> None:
        """Puts a configuration on disk, as JSON, which is YAML; in one step, as an editor does."""
        fresh = self.config / ".fresh"
        fresh.write_text(json.dumps(written))
        fresh.rename(self.config / "all.yaml")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "serve", "--config", str(self.config), "--port", "0"],
            cwd=self.directory,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        listening = self.wait_log(lambda line: line["event"] == "listening", START_SECONDS)
        self.port: int = listening["port"]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self, signum: int = signal.SIGTERM, within: float = 20.0) -> int:
        """Ends the process and gives its exit status; what it wrote to standard error is in `errors`."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            status = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self._reader.join(within)
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        self.errors = self.process.stderr.read().decode()
        self.process.stderr.close()
        self.process.stdout.close()
        return status

    def wait_log(self, is_it: Callable[[dict[str, Any]], bool], within: float = 10.0) -> dict[str, Any]:
        """The first line, past or to come, that `is_it`."""
        for line in self.log:
            if is_it(line):
                return line
        deadline = time.monotonic() + within
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                seen = "\n".join(json.dumps(line) for line in self.log[-20:])
                raise TimeoutError(
                    f"no such log line within {within} s (status {self.process.poll()}); last:\n{seen}"
                ) from None
            self.log.append(line)
            if is_it(line):
                return line

    def request_line(self, request_id: str, within: float = 10.0) -> dict[str, Any]:
        """The log line of one request."""
        return self.wait_log(lambda line: line.get("request_id") == request_id and line["event"] == "request", within)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
