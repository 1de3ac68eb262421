"""`tollgate up`: the gateway in this process, and `tollgate-worker launch --all` beside it.

The gateway serves at once: a port in use shows before an engine has loaded, workers elsewhere are reachable, and
/readyz turns green as the workers come. The lines to paste follow when it has.

    tollgate up ──(pipe: its end stops the workers)──▶ tollgate-worker launch ──▶ guards ──▶ engines
               ◀──(JSON lines: what became of them)──

The launcher has a session of its own, so that Ctrl-C reaches only the gateway: requests under way drain first, the
workers go after. Kill this process and the pipe closes, and the workers go; when the launcher ends, so does this.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from gateway import app
from gateway.config import ConfigError, load
from gateway.listening import listen
from gateway.table import Table
from gateway.welcome import base_url, reachable, welcome

LOG_DIR = Path("var/log")
STOP_WITHIN = 60.0  # the launcher bounds every engine's end to less
SAY_AGAIN = 1.0  # between two requests to the gateway to end; one may come before it listens for them
READY_WITHIN = 60.0  # after the last worker answered; the gateway probes every few seconds
ASK_EVERY = 0.5

SETTLED = ("ready", "failed")


class Interrupted(BaseException):
    """A signal before the gateway began to listen for signals, or after it ended."""


def run(config_dir: Path, port: int | None) -> int:
    """Serves until a signal. 0 after a clean end; 1 when the start was refused or the launcher ended by itself."""
    try:
        table = load(config_dir)
    except ConfigError as error:
        say(str(error))
        return 1
    names = [worker.name for worker in table.workers.values() if worker.launch is not None]
    if not names:
        say("no worker has `launch:`, so none is started here; this is `tollgate serve`")
        return app.run(config_dir, port)
    server = table.settings.server
    port = port_to_use(server.host, server.port if port is None else port)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    launcher = Launcher(table, names, Welcome(table, server.host, port))
    try:
        launcher.start()
        status = app.run(config_dir, port)
    except Interrupted:
        status = 0
    finally:
        launcher.stop()
    return 1 if launcher.was_lost else status


def port_to_use(host: str, port: int) -> int:
    """The port itself, or a free one for 0: the welcome has to name it."""
    if port != 0:
        return port
    with listen(host, 0, shared=False) as free:
        return free.getsockname()[1]


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Once: what follows is the orderly end, and a second Ctrl-C must not break that."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, ignore)
    raise Interrupted


def ignore(number: int, frame: FrameType | None) -> None:
    pass


class Launcher:
    """The `tollgate-worker launch` process and the thread that reads what it says."""

    def __init__(self, table: Table, names: list[str], welcome: Welcome) -> None:
        self.was_lost = False
        self._table = table
        self._waiting = set(names)
        self._welcome = welcome
        self._troubles: list[str] = []
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = threading.Thread(target=self._read, name="workers", daemon=True)

    def start(self) -> None:
        say(f"starting {len(self._waiting)} workers: {', '.join(sorted(self._waiting))}")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "workers.cli", "launch", "--all"),
                *("--config", str(self._table.directory), "--log-dir", str(LOG_DIR)),
                *("--format", "json", "--until-stdin-closes"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._reader.start()

    def stop(self) -> None:
        """Ends the workers and waits for that. Safe to call when they never started or have ended already."""
        self._stopping.set()
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        if self._reader.ident is None:  # interrupted between the two starts
            self._reader.start()
        self._reader.join(STOP_WITHIN)
        if self._reader.is_alive():
            say(f"the launcher does not end within {STOP_WITHIN:g} s: killing it, which ends its engines too")
            self._process.kill()
            self._reader.join(STOP_WITHIN)

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                self._heard(json.loads(line))
        status = self._process.wait()
        if self._stopping.is_set():
            return
        self.was_lost = True
        say(f"the launcher of the workers ended with status {status}, and its workers with it: ending the gateway")
        os.kill(os.getpid(), signal.SIGTERM)
        while not self._stopping.wait(SAY_AGAIN):
            os.kill(os.getpid(), signal.SIGTERM)

    def _heard(self, change: dict[str, Any]) -> None:
        name, state, reason = change["worker"], change["state"], change["reason"]
        words = f"{state.replace('_', ' ')}: {reason}" if reason and state in ("backing_off", "failed") else state
        say(f"worker {name}: {words}")
        if change["last_words"]:
            say(*(f"  | {line}" for line in change["last_words"]), f"  the whole log: {change['log']}")
        if state == "failed":
            self._troubles.append(f"{name}: {reason}; see {change['log']}")
        if state in SETTLED and self._waiting:
            self._waiting.discard(name)
            if not self._waiting:
                # On a thread of its own, so that this one keeps reading: a full pipe would stop the launcher.
                arguments = (list(self._troubles), self._stopping)
                threading.Thread(target=self._welcome.give, args=arguments, name="welcome", daemon=True).start()


class Welcome:
    """Waits until the gateway is ready and then says what to paste."""

    def __init__(self, table: Table, host: str, port: int) -> None:
        self._table = table
        self._host = host
        self._port = port

    def give(self, troubles: list[str], stopping: threading.Event) -> None:
        """Ready means that /readyz agrees, or has had time enough: a worker elsewhere may be away."""
        for _ in range(int(READY_WITHIN / ASK_EVERY)):
            if self._is_ready() or stopping.wait(ASK_EVERY):
                break
        if not stopping.is_set():
            say(*welcome(self._table, base_url(self._host, self._port), LOG_DIR / "workers", troubles))

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(reachable(self._host), self._port, timeout=READY_WITHIN)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False  # not listening yet
        finally:
            connection.close()


def say(*lines: str) -> None:
    """For the person at the terminal; standard output belongs to the gateway's log."""
    print("\n".join(lines), file=sys.stderr, flush=True)  # noqa: T201  # at once: other threads speak too
