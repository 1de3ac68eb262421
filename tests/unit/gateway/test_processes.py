"""The parent of several processes, with children that are nothing but children."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.processes import listen
from tests.eventually import eventually

SERVES = "import os, signal, time; open({marks!r} + str(os.getpid()), 'w').close(); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVES
REFUSES = "raise SystemExit(1)"
POLITE = (
    "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.signal(signal.SIGINT, signal.SIG_IGN); "
    + SERVES
)


class Parent:
    """`run_many` in a process of its own; each child leaves its pid behind as a file's name."""

    def __init__(self, directory: Path, child: str, count: int = 2, drain_seconds: float = 0.0) -> None:
        self._marks = directory
        command = ["-c", child.format(marks=f"{directory}{os.sep}")]
        run = f"run_many({command!r}, {count}, {drain_seconds})"
        code = f"import sys; from gateway.processes import run_many; sys.exit({run})"
        self.process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)

    def pids(self, count: int) -> list[int]:
        """The children that have begun, once there are that many."""

        def begun() -> list[int] | None:
            names = [int(file.name) for file in self._marks.iterdir()]
            return sorted(names) if len(names) >= count else None

        return eventually(begun, f"{count} children")

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(signum)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors.decode()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_parent_ends_all_in_good_order(signum: signal.Signals, tmp_path: Path) -> None:
    parent = Parent(tmp_path, POLITE, 3)
    pids = parent.pids(3)
    assert parent.end(signum) == (0, "")
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_child_that_dies_is_replaced(tmp_path: Path) -> None:
    parent = Parent(tmp_path, POLITE)
    first, second = parent.pids(2)
    os.kill(first, signal.SIGKILL)
    pids = parent.pids(3)
    assert {first, second} < set(pids)
    status, errors = parent.end()
    assert status == 0
    assert f"gateway process {first} ended with -9: starting another" in errors


def test_a_child_that_will_not_leave_is_killed(tmp_path: Path) -> None:
    parent = Parent(tmp_path, STUBBORN, 1)
    (pid,) = parent.pids(1)
    assert parent.end()[0] == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_children_that_refuse_to_start_end_it_all(tmp_path: Path) -> None:
    status, errors = Parent(tmp_path, REFUSES).wait()
    assert status == 1
    assert "would not start" in errors


def test_a_port_may_be_shared_by_those_who_say_so() -> None:
    with listen("127.0.0.1", 0, shared=True) as one:
        port = one.getsockname()[1]
        with listen("127.0.0.1", port, shared=True) as two:
            assert two.getsockname()[1] == port


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for shared in (False, True):
            with pytest.raises(OSError, match="in use") as caught:
                listen("127.0.0.1", port, shared=shared)
            assert caught.value.errno == errno.EADDRINUSE


def test_an_ipv6_address() -> None:
    with listen("::1", 0, shared=False) as listener:
        assert listener.family == socket.AF_INET6
        assert listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
