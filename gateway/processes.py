"""Several gateway processes on one port: the parent starts them, replaces those that die and passes signals on.

Each child listens for itself with SO_REUSEPORT, so the kernel spreads the connections and no lock is shared.
"""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

logger = logging.getLogger("tollgate.processes")

RESTART_SECONDS = 1.0  # between two starts of the same child, so that one that cannot start does not spin
FORCE_AFTER_SECONDS = 5.0  # past the children's own drain time


def listen(host: str, port: int, *, shared: bool) -> socket.socket:
    """A listening TCP socket. `shared` lets other processes of this user listen on the same port."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def run_many(command: list[str], count: int, drain_seconds: float, ready: Callable[[], None]) -> int:
    """Runs `count` children of `command` until SIGTERM or SIGINT; gives 0 when all of them left in good order."""
    stopping = False

    def stop(signum: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    children: list[subprocess.Popen[bytes]] = []
    started: list[float] = []
    for _ in range(count):
        children.append(_spawn(command))
        started.append(time.monotonic())
    ready()
    while not stopping:
        time.sleep(0.1)
        for index, child in enumerate(children):
            if child.poll() is None or time.monotonic() - started[index] < RESTART_SECONDS or stopping:
                continue
            logger.error("gateway process %d ended with %s: starting another", child.pid, child.returncode)
            children[index] = _spawn(command)
            started[index] = time.monotonic()
    for child in children:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + drain_seconds + FORCE_AFTER_SECONDS
    worst = 0
    for child in children:
        try:
            worst = max(worst, abs(child.wait(max(0.1, deadline - time.monotonic()))))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            worst = 1
    return 1 if worst else 0


def _spawn(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *command], start_new_session=False)
