"""A real vLLM worker behind a real gateway, both of this checkout."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from loadtests.client import Target
from loadtests.peers.base import ROOT, free_port

KEY = "sk-audit"
MODEL = "mini"
WORKER = "mini"
READY_SECONDS = 300.0


class Site:
    """`with Site(directory) as site:` is up when the block begins."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ledger = directory / "ledger.db"
        self.worker_url = f"http://127.0.0.1:{free_port()}"
        self.target = Target(f"http://127.0.0.1:{free_port()}", (("authorization", f"Bearer {KEY}"),))
        self._up: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        config = self.directory / "config"
        config.mkdir(parents=True)
        (config / "all.yaml").write_text(json.dumps(self._configuration()))
        with (self.directory / "gateway.log").open("wb") as log:
            self._up = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", "up", "--config", str(config), "--port", str(self.target.port)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))},
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if time.monotonic() > deadline or self._up.poll() is not None:
                self.__exit__(None, None, None)
                raise RuntimeError(f"the gateway does not get ready; its log: {self.directory / 'gateway.log'}")
            time.sleep(0.25)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._up is not None
        if self._up.poll() is None:
            self._up.send_signal(signal.SIGTERM)
            try:
                self._up.wait(90)
            except subprocess.TimeoutExpired:
                self._up.kill()
                self._up.wait()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.target.url}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def _configuration(self) -> dict[str, object]:
        launch = {
            "port": int(self.worker_url.rpartition(":")[2]),
            "args": ["--max-num-seqs", "32"],
            "env": {"VLLM_CPU_OMP_THREADS_BIND": "nobind"},
        }
        versions = {"bf16": {"artifact": str(ROOT / "var/models/scribe-mini"), "quantization": "none"}}
        return {
            "ledger": f"sqlite:///{self.ledger}",
            "metering": {"readings": "500ms"},
            "gpus": {"cpu": {"hourly_usd": 0.09}},
            "models": {MODEL: {"context": 1024, "versions": versions}},
            "workers": [{"name": WORKER, "engine": "vllm", "serves": f"{MODEL}@bf16", "gpu": "cpu", "launch": launch}],
            "tenants": {"audit": {"keys": [{"id": "audit", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]}},
        }
