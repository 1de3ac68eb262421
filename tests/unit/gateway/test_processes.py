"""The parent of several processes, with children that are nothing but children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.eventually import eventually

# A child says that it serves, keeps a file of what it heard, and leaves when it is asked to.
POLITE = """
    import os, signal, socket, sys, time
    from gateway.child import *
    left = inherited()
    line = Line(socket.socket(fileno=left.line))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    marks = {marks!r}
    {before}
    line.say(SERVING)
    with open(marks + str(os.getpid()), "w", buffering=1) as file:
        print(left.slot, file=file)
        while True:
            line._end.setblocking(True)
            said = line.heard()
            if not said:  # the parent is gone
                os._exit(1)
            for verb, slot in said:
                print(verb.decode(), slot, file=file)
"""
LEAVES = "signal.signal(signal.SIGTERM, lambda *_: (line.say(LEAVING), time.sleep(600)))"
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
REFUSES = "sys.exit(1)"
SILENT_SUCCESSOR = "if len(os.listdir(marks)) >= 2: sys.exit(3)"


class Parent:
    """A `Parent` in a process of its own; each child leaves its pid behind as a file's name."""

    started: ClassVar[list[Parent]] = []

    def __init__(self, directory: Path, before: str = "", count: int = 2, *, force_after: float = 15.0) -> None:
        self._marks = directory
        self._known: list[int] = []
        child = textwrap.dedent(POLITE).format(marks=f"{directory}{os.sep}", before=before)
        code = f"""
            import sys
            from gateway import processes
            from gateway.listening import listen_for_many
            processes.FORCE_AFTER_SECONDS = {force_after}
            listeners = listen_for_many("127.0.0.1", 0, {count})
            sys.exit(processes.Parent(["-c", {child!r}], listeners, 0.0).run())
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)
        Parent.started.append(self)

    def pids(self, count: int) -> list[int]:
        """The children that have begun, in that order, once there are that many."""

        def begun() -> list[int] | None:
            self._known += [
                int(file.name)
                for file in self._marks.iterdir()
                if int(file.name) not in self._known and file.read_text()
            ]
            return self._known if len(self._known) >= count else None

        return list(eventually(begun, f"{count} children"))

    def heard(self, pid: int) -> list[str]:
        """The child's slot, and what it was told."""
        return (self._marks / str(pid)).read_text().split("\n")[:-1]

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(signum)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors.decode()


@pytest.fixture(autouse=True)
def leave_nobody_behind() -> Iterator[None]:
    """A parent that a test has not ended is killed, and its children leave."""
    yield
    while Parent.started:
        parent = Parent.started.pop()
        if parent.process.poll() is None:
            parent.process.kill()
            parent.process.communicate()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_parent_ends_all_in_good_order(signum: signal.Signals, tmp_path: Path) -> None:
    parent = Parent(tmp_path, count=3)
    pids = parent.pids(3)
    assert parent.end(signum) == (0, "")
    assert not any(is_alive(pid) for pid in pids)


def test_others_stand_in_for_a_child_that_dies_until_there_is_another(tmp_path: Path) -> None:
    parent = Parent(tmp_path, count=3)
    pids = parent.pids(3)
    slots = {pid: int(parent.heard(pid)[0]) for pid in pids}
    assert sorted(slots.values()) == [0, 1, 2]
    victim, *others = pids
    os.kill(victim, signal.SIGKILL)
    new = parent.pids(4)[-1]
    assert parent.heard(new)[0] == str(slots[victim])
    told = [str(slots[other]) for other in others]
    for other, slot in zip(others, told, strict=True):
        eventually(
            lambda other=other, slot=slot: (
                parent.heard(other) == [slot, f"+ {slots[victim]}", f"- {slots[victim]}"] or None
            ),
            "the others stand in and back",
        )
    assert parent.heard(new) == [str(slots[victim])]
    status, errors = parent.end()
    assert status == 0
    assert f"gateway process {victim} ended with -9: starting another" in errors


def test_a_child_that_somebody_else_asks_to_leave_has_a_successor_at_once(tmp_path: Path) -> None:
    parent = Parent(tmp_path, LEAVES, force_after=2.0)
    first, second = parent.pids(2)
    os.kill(first, signal.SIGTERM)
    third = parent.pids(3)[-1]
    eventually(lambda: len(parent.heard(second)) == 3 or None, "the other one stood in")
    assert parent.heard(third)[0] == parent.heard(first)[0]
    eventually(lambda: not is_alive(first) or None, "it is killed when it takes too long")
    assert is_alive(second)
    parent.end()


def test_sighup_replaces_one_after_another(tmp_path: Path) -> None:
    parent = Parent(tmp_path)
    first, second = parent.pids(2)
    parent.process.send_signal(signal.SIGHUP)
    third, fourth = parent.pids(4)[2:]
    for old in (first, second):
        eventually(lambda old=old: not is_alive(old) or None, "the old ones leave")
    assert parent.heard(third)[0] != parent.heard(fourth)[0]
    assert all(len(parent.heard(pid)) == 1 for pid in (third, fourth))  # nobody had to stand in
    status, errors = parent.end()
    assert status == 0
    assert errors.count("takes the place of") == 2


def test_a_successor_that_does_not_start_takes_nobodys_place(tmp_path: Path) -> None:
    parent = Parent(tmp_path, SILENT_SUCCESSOR)
    first, second = parent.pids(2)
    parent.process.send_signal(signal.SIGHUP)
    assert parent.process.stderr is not None
    assert b"does not serve: the others stay as they are" in parent.process.stderr.readline()
    assert is_alive(first)
    assert is_alive(second)
    assert parent.end() == (0, "")


def test_a_child_that_will_not_leave_is_killed(tmp_path: Path) -> None:
    parent = Parent(tmp_path, STUBBORN, 1, force_after=1.0)
    (pid,) = parent.pids(1)
    status, errors = parent.end()
    assert status == 1
    assert "does not leave: killing it" in errors
    assert not is_alive(pid)


def test_children_that_refuse_to_start_end_it_all(tmp_path: Path) -> None:
    status, errors = Parent(tmp_path, REFUSES).wait()
    assert status == 1
    assert "would not start" in errors
