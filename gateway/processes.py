"""Several gateway processes on one port: the parent starts them, replaces those that die and passes signals on.

Each child listens for itself with SO_REUSEPORT, so the kernel spreads the connections and no lock is shared.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time

logger = logging.getLogger("tollgate.processes")

LOOK_SECONDS = 0.1  # between two looks at the children
RESTART_SECONDS = 1.0  # between two starts of the same child, so that one that cannot start does not spin
REFUSED = 1  # a child's exit status when it will not start
REFUSED_WITHIN_SECONDS = 10.0  # of the parent's own start: later, a child that will not start must not end the others
FORCE_AFTER_SECONDS = 5.0  # past the children's own drain time
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def listen(host: str, port: int, *, shared: bool) -> socket.socket:
    """A bound TCP socket, ready to listen. `shared` lets other processes of this user bind the same port."""
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


def run_many(command: list[str], count: int, drain_seconds: float) -> int:
    """Runs `count` children of `command` until SIGTERM or SIGINT; gives 0 when all of them left in good order.

    1 when one of them would not start or had to be killed.
    """
    stopping = False

    def stop(signum: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    began = time.monotonic()
    children = [_spawn(command) for _ in range(count)]
    started = [began] * count
    worst = 0
    while not stopping:
        time.sleep(LOOK_SECONDS)
        for index, child in enumerate(children):
            now = time.monotonic()
            if child.poll() is None or stopping:
                continue
            if child.returncode == REFUSED and now - began < REFUSED_WITHIN_SECONDS:
                logger.error("gateway process %d would not start: the log says why", child.pid)
                stopping = True
            elif now - started[index] >= RESTART_SECONDS:
                logger.error("gateway process %d ended with %s: starting another", child.pid, child.returncode)
                children[index] = _spawn(command)
                started[index] = now
    for child in children:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + drain_seconds + FORCE_AFTER_SECONDS
    for child in children:
        try:
            worst = max(worst, abs(child.wait(max(0.1, deadline - time.monotonic()))))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            worst = 1
    return 1 if worst else 0


def end_with_parent(parent: int) -> None:
    """In a child: SIGTERM to itself once the parent is gone, even when that was killed. Only Linux can do this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was gone before the kernel was asked
            signal.raise_signal(signal.SIGTERM)


def _spawn(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *command])
