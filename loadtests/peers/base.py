"""What every peer has to say about itself, and how one is started and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx2

from loadtests.client import Target, chat_request

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venvs" / "peers"
LOCKS = ROOT / "deploy" / "locks"
MODEL = "bench"


class Unavailable(Exception):
    """This peer can not run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer runs: its worker, its port, a directory for what it writes, and cores (none: any) for what it does
    beside relaying, where it can be done elsewhere."""

    worker_url: str
    port: int
    directory: Path
    other_cores: tuple[int, ...] = ()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Start:
    """How to start a peer, and what requests to it have to carry."""

    command: Sequence[str | Path]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: tuple[tuple[str, str], ...] = ()
    more_ports: tuple[int, ...] = ()  # it listens on these as well
    patience: float = 20.0  # seconds until its first answer


class Peer(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def streams(self) -> int:
        """How many paced streams it can be asked to carry; 0 leaves it out of those figures."""
        ...

    @property
    def processes(self) -> int:
        """How many processes relay, which is how many cores it may use."""
        ...

    def install(self) -> None:
        """Brings what `start` needs. Quick when it is there already; Unavailable when it can not be brought."""

    def start(self, place: Place) -> Start | None:
        """Writes its configuration into the place, says how to start; None: nothing stands before the worker."""


@dataclass(slots=True)
class Running:
    """A peer that answers."""

    peer: Peer
    target: Target
    process: subprocess.Popen[bytes] | None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None


def virtual_environment(name: str) -> Path:
    """An environment with exactly what the peer's lock names, made when it is missing or the lock has changed."""
    home, lock = ENVIRONMENTS / name, LOCKS / f"peers-{name}.txt"
    installed = home / "installed.txt"
    if not installed.exists() or installed.read_text() != lock.read_text():
        print(f"installing {name} into {home.relative_to(ROOT)}", flush=True)
        pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([sys.executable, "-m", "venv", "--clear", home])
        _run([*pip, "--no-deps", "-r", lock])
        shutil.copyfile(lock, installed)
    return home / "bin"


def _run(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise Unavailable(f"{Path(command[0]).name} {command[-1]}: {last[0]}")


run_installer = _run


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(cores: Sequence[int]) -> list[str]:
    """The words before a command that keep it on these cores; none for any."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores))] if cores else []


def launch(
    peer: Peer, worker_url: str, directory: Path, cores: Sequence[int], other_cores: Sequence[int] = ()
) -> Running:
    """Starts a peer on its cores (none given: on any) and waits for its first answer."""
    directory.mkdir(parents=True, exist_ok=True)
    place = Place(worker_url, free_port(), directory, tuple(other_cores))
    start = peer.start(place)
    if start is None:
        return Running(peer, Target(worker_url), None)
    log = directory / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*pinned(cores), *start.command],
            cwd=directory,
            env={**os.environ, **start.env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Running(peer, Target(place.url, start.headers, start.more_ports), process)
    try:
        _await_answer(running, start.patience)
    except TimeoutError:
        stop(running)
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise Unavailable(f"no answer within {start.patience:.0f} s; last in its log: {last[0][:160]}") from None
    return running


def _await_answer(running: Running, patience: float) -> None:
    head, _, body = chat_request(running.target, MODEL, stream=False, tokens=4).partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    deadline = time.monotonic() + patience
    silent = list(running.target.ports)
    with httpx2.Client(trust_env=False, timeout=5.0) as client:
        while time.monotonic() < deadline and (running.process is None or running.process.poll() is None):
            with contextlib.suppress(httpx2.HTTPError):
                url = f"http://{running.target.host}:{silent[-1]}/v1/chat/completions"
                if client.post(url, content=body, headers=headers).status_code == 200:
                    silent.pop()
                    if not silent:
                        return
                    continue
            time.sleep(0.2)
    raise TimeoutError


def stop(running: Running) -> None:
    """Asks it to end, and insists after five seconds."""
    process = running.process
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # launch gave it a session of its own
        process.wait(5)
