"""A Redis of the test's own, the processes that share it, and what befalls them."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from loadtests.limits.process import Orders
from loadtests.peers.base import ROOT

READY_SECONDS = 10.0


@dataclass(slots=True)
class Life:
    """Of one process: what it wrote, and when it was killed on the machine's monotonic clock."""

    slot: int
    file: Path
    process: subprocess.Popen[bytes]
    killed: float | None = None


class Site:
    def __init__(self, directory: Path, processes: int, clients: int, ttl: int, budget: int, pause: float) -> None:
        self.lives: list[Life] = []
        self.pauses: list[tuple[float, float]] = []
        self._directory = directory
        self._processes = processes
        self._clients = clients
        self._ttl = ttl
        self._budget = budget
        self._pause = pause
        # Bound and never listening, it keeps the port from all but a server that sets SO_REUSEADDR, as Redis does.
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind(("127.0.0.1", 0))
        self._port: int = self._reservation.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def __enter__(self) -> Self:
        command = ["redis-server", "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        command += ["--save", "", "--appendonly", "no"]
        self._redis = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return self
            time.sleep(0.02)
        self._redis.kill()
        raise TimeoutError("redis-server does not answer")

    def __exit__(self, *_: object) -> None:
        for life in self.lives:
            if life.killed is None:
                self.kill(life)
        self._redis.kill()
        self._redis.wait()
        self._reservation.close()

    def start(self, slot: int) -> None:
        number = len(self.lives)
        file = self._directory / f"process-{number}"
        orders = Orders(
            self.url,
            f"process-{number}",
            str(file),
            self._processes,
            self._clients,
            self._ttl,
            self._budget,
            self._pause,
            number,
        )
        paths = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
        with (self._directory / f"process-{number}.txt").open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "loadtests.limits.process", json.dumps(orders)],
                cwd=self._directory,
                env={**os.environ, "PYTHONPATH": paths},
                stdout=said,
                stderr=said,
            )
        self.lives.append(Life(slot, file, process))

    def start_all(self) -> None:
        """Returns when all of them have begun."""
        for slot in range(self._processes):
            self.start(slot)
        deadline = time.monotonic() + 60.0
        while not all(life.file.exists() and life.file.stat().st_size for life in self.lives):
            if time.monotonic() > deadline:
                raise TimeoutError("the processes did not begin")
            time.sleep(0.05)

    def kill(self, life: Life) -> None:
        life.process.kill()
        life.process.wait()
        life.killed = time.monotonic()

    def kill_one(self, dice: random.Random) -> None:
        life = dice.choice([life for life in self.lives if life.killed is None])
        self.kill(life)
        self.start(life.slot)

    @contextmanager
    def paused(self) -> Generator[None]:
        """Redis says nothing, and then goes on where it was."""
        began = time.monotonic()
        self._redis.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._redis.send_signal(signal.SIGCONT)
            self.pauses.append((began, time.monotonic()))

    def ended(self) -> list[str]:
        """What those said last that ended and were not killed: none should."""
        ended = [life for life in self.lives if life.killed is None and life.process.poll() is not None]
        return [life.file.with_suffix(".txt").read_text(errors="replace")[-2_000:] for life in ended]
