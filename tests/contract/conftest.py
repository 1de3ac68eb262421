"""Real vLLM workers behind a real gateway, started once for all tests of this folder with `tollgate up`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest
from openai import OpenAI

from tests.eventually import eventually
from tests.ports import reserved_port

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 300.0
PATIENCE = 300.0  # for one answer: an engine on two busy cores compiles kernels when it first needs them
KEY = "sk-test-contract"
OTHER_KEY = "sk-test-other"
OTHER_WEIGHT = 2


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Stack:
    """Where everything listens."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "config"
        self.config.mkdir()
        self.port = reserved_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.workers = {name: reserved_port() for name in ("chat", "mini", "embed")}
        self.log = directory / "gateway.log"
        self.ledger = directory / "ledger.db"
        (self.config / "all.yaml").write_text(json.dumps(self._configuration()))

    def _configuration(self) -> dict[str, object]:
        def worker(name: str, serves: str, *args: str, **more: object) -> dict[str, object]:
            launch = {
                "port": self.workers[name],
                "args": ["--max-num-seqs", "32", *args],
                "env": {"VLLM_CPU_OMP_THREADS_BIND": "nobind"},
            }
            return {"name": name, "engine": "vllm", "serves": serves, "gpu": "cpu", "launch": launch, **more}

        models = ROOT / "var/models"
        return {
            "ledger": f"sqlite:///{self.ledger}",
            "metering": {"readings": "500ms"},
            "queue": {"wait": "30s"},
            "gpus": {"cpu": {"hourly_usd": 0.09}},
            "models": {
                "scribe": {
                    "context": 1024,
                    "versions": {"fp8": {"artifact": str(models / "scribe-fp8"), "quantization": "fp8"}},
                    "adapters": {
                        "sql": {"path": str(models / "scribe-sql")},
                        "support": {"path": str(models / "scribe-support"), "tenants": ["contract"]},
                    },
                },
                "mini": {
                    "context": 1024,
                    "versions": {"bf16": {"artifact": str(models / "scribe-mini"), "quantization": "none"}},
                },
                "embedder": {
                    "context": 1024,
                    "task": "embed",
                    "versions": {"bf16": {"artifact": str(models / "scribe-mini"), "quantization": "none"}},
                },
            },
            "aliases": {"gpt-4o": "scribe", "text-embedding-3-small": "embedder"},
            "workers": [
                worker("chat", "scribe@fp8", max_loras=2),
                worker("mini", "mini@bf16", max_inflight=3),  # soon full
                worker("embed", "embedder@bf16"),
            ],
            "tenants": {
                "contract": {"keys": [{"id": "k", "sha256": digest(KEY)}]},
                "other": {"keys": [{"id": "k", "sha256": digest(OTHER_KEY)}], "weight": OTHER_WEIGHT},
            },
        }

    def running_on(self, worker: str) -> int:
        """Requests the engine itself says it is working on or holds waiting."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.workers[worker]}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        gauges = re.findall(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} ([0-9.e+]+)$", text, re.MULTILINE)
        return int(sum(float(value) for value in gauges))

    def request_line(self, request_id: str) -> dict[str, object]:
        """The log line of one request, once it is there."""

        def find() -> str | None:
            lines = self.log.read_text().splitlines(keepends=True)
            mine = (line for line in lines if request_id in line and '"event":"request"' in line)
            return next((line for line in mine if line.endswith("\n")), None)

        return json.loads(eventually(find, f"the log line of {request_id}"))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    with stack.log.open("wb") as log:
        up = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "up", "--config", str(stack.config), "--port", str(stack.port)],
            cwd=ROOT,
            stdout=log,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        _wait_until_ready(stack.url, up)
        yield stack
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            status = up.wait(90)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait()
            raise
    assert status == 0


def _wait_until_ready(url: str, up: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert up.poll() is None, f"`tollgate up` ended with {up.returncode}"
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.25)
    raise AssertionError(f"not ready within {READY_SECONDS:g} s")


@pytest.fixture
def client(stack: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{stack.url}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def claude(stack: Stack) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=stack.url, api_key=KEY, max_retries=0, timeout=PATIENCE) as client:
        yield client
