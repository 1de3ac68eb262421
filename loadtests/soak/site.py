"""The processes of a soak: stand-in workers, one of them mortal, and the gateway of this checkout."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from loadtests.client import Target
from loadtests.peers.base import ROOT, free_port

KEY = "sk-soak"
CALM = ("calm0", "calm1", "calm2")  # nothing that happens there leaves a request half done: their books must be exact
ROUGH = ("rough0", "mortal")  # where streams break and clients leave; `mortal` is killed again and again
START_SECONDS = 30.0
SCRAPE_SECONDS = 10.0

Row = dict[str, Any]
Counters = dict[str, float]
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Worker:
    """A stand-in on a port of its own, which it keeps when it is started again."""

    def __init__(self, name: str, model: str) -> None:
        self.name = name
        self.model = model
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "loadtests.standin", "--model", f"{self.model}@v1", "--port", str(self.port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith(b"ready"):
            raise RuntimeError(f"worker {self.name} did not start")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, signum: int) -> None:
        self._process.send_signal(signum)
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def counters(self) -> Counters:
        """vLLM's own, summed over their labels except for the reason a request finished."""
        found: Counters = {}
        for name, labels, value in samples(f"{self.url}/metrics"):
            reason = labels.get("finished_reason")
            key = name.removeprefix("vllm:") + (f" {reason}" if reason else "")
            found[key] = found.get(key, 0.0) + value
        return found


class Site:
    """`with Site(directory) as site:` is up when the block begins, every worker in use."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.workers: dict[str, Worker] = {}
        self._gateway: subprocess.Popen[bytes] | None = None
        self.target = Target(f"http://127.0.0.1:{free_port()}", (("authorization", f"Bearer {KEY}"),))

    def __enter__(self) -> Site:
        try:
            for name in CALM:
                self.workers[name] = Worker(name, "calm")
            for name in ROUGH:
                self.workers[name] = Worker(name, "rough")
            self._start_gateway()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._gateway is not None and self._gateway.poll() is None:
            self._gateway.kill()
            self._gateway.wait()
        for worker in self.workers.values():
            worker.stop()

    @property
    def pid(self) -> int:
        assert self._gateway is not None
        return self._gateway.pid

    def _start_gateway(self) -> None:
        config = self.directory / "config"
        config.mkdir(parents=True)
        (config / "all.yaml").write_text(json.dumps(self._configuration()))
        with (self.directory / "gateway.log").open("wb") as log:
            self._gateway = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", "serve", "--config", str(config)],
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH") or str(ROOT)},  # compiled, if this is
                stdin=subprocess.DEVNULL,
                stdout=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._all_up():
            if time.monotonic() > deadline or self._gateway.poll() is not None:
                raise RuntimeError(f"the gateway does not get ready; its log: {self.directory / 'gateway.log'}")
            time.sleep(0.1)

    def _all_up(self) -> bool:
        try:
            return self.metric("tollgate_worker_up") == len(self.workers)
        except urllib.error.URLError:
            return False

    def _configuration(self) -> dict[str, Any]:
        models: dict[str, dict[str, Any]] = {
            name: {"context": 32768, "versions": {"v1": {}}} for name in ("calm", "rough")
        }
        retry = {"attempts": 2, "budget": "10%"}
        return {
            "server": {"host": "127.0.0.1", "port": int(self.target.url.rpartition(":")[2]), "drain_seconds": 10},
            "ledger": f"sqlite:///{self.directory / 'ledger.db'}",
            "probe": {"every": "500ms", "wait": "5s"},
            "gpus": {"cpu": {"hourly_usd": 3.6}},
            "models": models,
            "routes": [
                {"name": name, "match": {"model": name}, "candidates": [f"{name}@v1"], "retry": retry}
                for name in models
            ],
            "workers": [
                {
                    "name": worker.name,
                    "url": worker.url,
                    "engine": "vllm",
                    "serves": f"{worker.model}@v1",
                    "gpu": "cpu",
                }
                for worker in self.workers.values()
            ],
            "tenants": {"soak": {"keys": [{"id": "soak", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]}},
        }

    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        return samples(f"{self.target.url}/metrics")

    def metric(self, name: str, **labels: str) -> float:
        """The sum over the samples that carry these labels."""
        return sum(value for found, has, value in self.samples() if found == name and labels.items() <= has.items())

    def left_waiting(self) -> int:
        """Requests whose client left while they waited for a worker, after others had failed or before any was asked:
        by the gateway's log, as no attempt was broken off."""
        with (self.directory / "gateway.log").open("rb") as log:
            return sum(b'"outcome":"aborted"' in line and b'"worker":"","attempts"' in line for line in log)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rows(self) -> list[Row]:
        """The attempts of the ledger as their gateway had them at their end: no corrections, and no probes."""
        with closing(sqlite3.connect(f"file:{self.directory / 'ledger.db'}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            columns = "worker, outcome, status, estimated, prompt_tokens, cached_tokens, output_tokens, cost_nanousd"
            query = f"SELECT {columns} FROM attempts WHERE correction = 0 AND tenant <> '__probe__'"
            return [dict(row) for row in connection.execute(query)]

    def stop_gateway(self) -> int:
        """Its exit status after SIGTERM."""
        assert self._gateway is not None
        self._gateway.terminate()
        return self._gateway.wait(60)


def samples(url: str) -> list[tuple[str, dict[str, str], float]]:
    with urllib.request.urlopen(url, timeout=SCRAPE_SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    matches = (match for line in lines if (match := _SAMPLE.match(line)))
    return [(match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])) for match in matches]
