"""A real gateway process for tests: `tollgate serve` on a free port with a configuration written for the test."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.eventually import eventually

ROOT = Path(__file__).parents[1]  # this checkout's gateway, wherever another is installed from
KEY = "sk-test-acme"
ADMIN_KEY = "sk-test-admin"
START_SECONDS = 30.0
POLL = 0.1

Row = dict[str, Any]


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def tenant(key: str, **settings: Any) -> dict[str, Any]:
    """One tenant's entry with a single key."""
    return {"keys": [{"id": "k1", "sha256": digest(key)}], **settings}


def worker_entry(name: str, url: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "url": url, "engine": "vllm", "serves": "tiny@v1", "gpu": "cpu", **settings}


def configuration(workers: Mapping[str, str] | list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """One model `tiny@v1` on the given workers (name -> URL, or their entries), one tenant `acme`; `changes` replace
    top-level keys."""
    if isinstance(workers, Mapping):
        workers = [worker_entry(name, url) for name, url in workers.items()]
    written: dict[str, Any] = {
        "server": {"host": "127.0.0.1", "port": 4000, "drain_seconds": 5},
        "ledger": "sqlite:///ledger.db",
        "probe": {"every": "200ms", "wait": "2s"},
        "admin": {"keys": [{"id": "test", "sha256": digest(ADMIN_KEY)}]},
        "gpus": {"cpu": {"hourly_usd": 3.6}},
        "models": {"tiny": {"context": 32768, "versions": {"v1": {"quantization": "fp8", "quality": 0.99}}}},
        "workers": workers,
        "aliases": {"gpt-4o-mini": "tiny"},
        "tenants": {"acme": tenant(KEY)},
    }
    return {**written, **changes}


class GatewayProcess:
    """`with GatewayProcess(directory, configuration(...)) as gateway:`; `gateway.url` answers when the block begins.

    `program` is what Python runs instead of `-m gateway.cli`.

    The directory is the process's working directory, with `config/`, `ledger.db` and what it wrote to standard error.
    """

    def __init__(
        self,
        directory: Path,
        written: Mapping[str, Any],
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "gateway.cli"),
    ) -> None:
        self._program = program
        self.directory = directory
        self.config = directory / "config"
        self.config.mkdir(parents=True, exist_ok=True)
        self.write(written)
        paths = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
        self._environ = {**os.environ, "PYTHONPATH": paths, **(environ or {})}
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self.log: list[dict[str, Any]] = []
        self.url = ""

    def write(self, written: Mapping[str, Any]) -> None:
        """Puts a configuration on disk, as JSON, which is YAML."""
        self.write_text(json.dumps(written))

    def write_text(self, text: str) -> None:
        """In one step, as an editor does."""
        fresh = self.config / ".fresh"
        fresh.write_text(text)
        fresh.rename(self.config / "all.yaml")

    # Life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        assert kind is not None or not self.faults, self.faults

    def start(self, port: int = 0) -> None:
        self.launch(port)
        try:
            self.port: int = self.wait_log(lambda line: line["event"] == "listening", START_SECONDS)["port"]
        except TimeoutError:
            self.stop()
            raise
        self.url = f"http://127.0.0.1:{self.port}"

    def launch(self, port: int = 0, *, read: bool = True) -> None:
        """Starts the process and waits for nothing. Its log is not read before `read` is called."""
        self.log.clear()
        with (self.directory / "stderr.txt").open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *self._program, "serve", "--config", str(self.config), "--port", str(port)],
                cwd=self.directory,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        if read:
            self.read()

    def read(self) -> None:
        self._reader.start()

    def stop(self, signum: int = signal.SIGTERM, within: float = 30.0) -> int:
        """Ends the process and gives its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        return self.wait(within)

    def wait(self, within: float = 30.0) -> int:
        """The exit status of a process that ends by itself; killed when it does not."""
        try:
            status = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join(within)
            assert self.process.stdout is not None
            self.process.stdout.close()
        while not self._lines.empty():
            self.log.append(self._lines.get())
        return status

    @property
    def faults(self) -> list[Any]:
        """Tracebacks in the log, and 500s: what no request and no worker may bring about."""
        return [line for line in self.log if "traceback" in line or line.get("status") == 500]

    @property
    def errors(self) -> str:
        """What the process wrote to standard error."""
        return (self.directory / "stderr.txt").read_text()

    # What it says

    def wait_log(self, is_it: Callable[[dict[str, Any]], bool], within: float = 15.0) -> dict[str, Any]:
        """The first line, past or to come, that `is_it`."""
        for line in self.log:
            if is_it(line):
                return line
        deadline = time.monotonic() + within
        while True:
            try:
                line = self._lines.get(timeout=POLL)
            except queue.Empty:
                if time.monotonic() < deadline and self._reader.is_alive():
                    continue
                seen = "\n".join(json.dumps(line) for line in self.log[-20:])
                raise TimeoutError(
                    f"no such log line within {within} s (status {self.process.poll()}); last:\n{seen}\n{self.errors}"
                ) from None
            self.log.append(line)
            if is_it(line):
                return line

    def wait_processes(self, count: int) -> None:
        """Until so many processes take connections."""
        listening = 0

        def is_last(line: dict[str, Any]) -> bool:
            nonlocal listening
            listening += line["event"] == "listening"
            return listening == count

        self.wait_log(is_last)

    def request_line(self, request_id: str, within: float = 15.0) -> dict[str, Any]:
        """The log line of one request."""
        return self.wait_log(lambda line: line.get("request_id") == request_id and line["event"] == "request", within)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    # What it knows

    def client(self, key: str = KEY) -> httpx2.Client:
        """A client of one tenant; close it, or use it as a context manager."""
        return httpx2.Client(
            base_url=self.url, headers={"authorization": f"Bearer {key}"}, timeout=30.0, trust_env=False
        )

    def admin(self, path: str) -> Any:
        with self.client(ADMIN_KEY) as client:
            return client.get(f"/admin/v1/{path}").json()

    def wait_ready(self) -> None:
        """Until every model has a worker that takes requests."""
        with self.client() as client:
            eventually(lambda: client.get("/readyz").status_code == 200 or None, "the gateway is ready")

    def wait_up(self, *names: str) -> None:
        """Until all these workers, or all there are, take requests."""

        def up() -> bool | None:
            workers = self.admin("workers")["workers"]
            return all(worker["up"] for worker in workers if not names or worker["name"] in names) or None

        eventually(up, f"up: {', '.join(names) or 'every worker'}")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels; 0 when there are none."""
        return sum(value for found, value in self.samples(name) if labels.items() <= found.items())

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        with self.client() as client:
            text = client.get("/metrics").text
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        ]

    def rows(self, request_id: str, count: int = 1) -> list[Row]:
        """The ledger's rows of one request, in order, once there are that many."""
        return eventually(
            lambda: rows if len(rows := self._rows(request_id)) >= count else None, f"{count} rows of {request_id}"
        )

    def all_rows(self, *, probes: bool = False) -> list[Row]:
        """Every row of the ledger as it is now; those of the gateway's own `probes` are left out."""
        return [row for row in self._rows(None) if probes or row["tenant"] != "__probe__"]

    @property
    def settler(self) -> int:
        """The pid of the process that writes the ledger."""
        pid = self.process.pid
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return next(int(child) for child in listed if b"gateway.settler" in Path(f"/proc/{child}/cmdline").read_bytes())

    def _rows(self, request_id: str | None) -> list[Row]:
        with closing(sqlite3.connect(f"file:{self.directory / 'ledger.db'}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute(
                "SELECT * FROM attempts WHERE request_id = ?1 OR ?1 IS NULL ORDER BY attempt_id", (request_id,)
            )
            return [dict(row) for row in found]
