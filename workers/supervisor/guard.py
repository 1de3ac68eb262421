"""Runs one engine and takes it, and everything it spawned, down when the supervisor is gone.

    python -I guard.py --log FILE --log-bytes N --grace SECONDS -- COMMAND [ARGUMENT …]

A program of its own with nothing but the standard library, because it must outlive a supervisor that is killed with
SIGKILL. Standard input is a pipe that the supervisor holds open and never writes to: when it closes, for whatever
reason, the engine gets SIGTERM, `--grace` seconds, and then SIGKILL with all its descendants. The same happens on
SIGTERM. What an engine leaves behind when it ends by itself is ended too.

Descendants can not slip away by calling setsid or by forking twice: the guard is a subreaper, so whatever loses its
parent becomes a child of the guard. If the guard itself is killed, the kernel kills the engine (PR_SET_PDEATHSIG).

Exits with the engine's status, 128 + signal when a signal ended it, 127 when it could not be started.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

CANNOT_START = 127
LEAVE_WITHIN = 1.0  # seconds, for what an engine leaves behind
KILL_WITHIN = 10.0  # seconds; only a process stuck in the kernel survives SIGKILL for longer
BURY_EVERY = 0.02
READ_SIZE = 1 << 16


def prctl(option: int, argument: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def descendants(root: int, *, with_zombies: bool = False) -> set[int]:
    """Every process below `root`."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            # pid (comm) state ppid …; comm may hold spaces and parentheses
            state, parent = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue  # it ended meanwhile
        if with_zombies or state != "Z":
            children.setdefault(int(parent), []).append(int(entry))
    found: set[int] = set()
    reach = [root]
    while reach:
        for pid in children.get(reach.pop(), ()):
            if pid not in found:
                found.add(pid)
                reach.append(pid)
    return found


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # gone already, or another user's


def is_resource_tracker(pid: int) -> bool:
    """Whether it is the process that `multiprocessing` starts to unlink what others leave in shared memory."""
    try:
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class BoundedLog:
    """A log file and its predecessor (`FILE.1`), each at most `limit` bytes. Ours and the engine's lines go here."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._open()

    def write(self, data: bytes) -> None:
        if self._size + len(data) > self._limit:
            os.close(self._fd)
            os.replace(self._path, self._path.with_name(self._path.name + ".1"))
            self._open()
        self._size += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def note(self, text: str) -> None:
        """A line of the guard's own."""
        self.write(f"--- {time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n".encode())

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(self._fd).st_size


class Guard:
    """The engine process, from its start until nothing of it is left."""

    def __init__(self, command: list[str], log: BoundedLog, grace: float) -> None:
        self._command = command
        self._log = log
        self._grace = grace
        self._status: int | None = None  # the engine's, once it has exited
        self._kill_at: float | None = None

    def run(self) -> int:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        signals = self._watch_signals()
        output, engine_output = os.pipe()
        try:
            self._engine = self._start(engine_output)
        except OSError as error:
            self._log.note(f"could not start {self._command[0]}: {error.strerror}")
            return CANNOT_START
        finally:
            os.close(engine_output)
        self._log.note(f"started pid {self._engine}: {' '.join(self._command)}")
        os.set_blocking(output, False)

        with selectors.DefaultSelector() as waiting:
            for source in (0, signals, output):
                waiting.register(source, selectors.EVENT_READ)
            while not self._reap():
                for key, _ in waiting.select(self._patience()):
                    if key.fd == output:
                        if self._copy(output) == b"":
                            waiting.unregister(output)
                    elif key.fd == signals:
                        if signal.SIGTERM in os.read(signals, READ_SIZE):
                            self._end("asked by SIGTERM")
                    elif not os.read(0, READ_SIZE):
                        waiting.unregister(0)
                        self._end("the supervisor closed its end")
                if self._kill_at is not None and time.monotonic() >= self._kill_at:
                    self._log.note(f"still there after {self._grace:g} s: killing")
                    self._kill_at = None
                    kill([self._engine])
        self._end_the_rest()
        while self._copy(output):
            pass
        self._log.note(f"ended with status {self._status}")
        return self._status if self._status is not None else CANNOT_START

    def _watch_signals(self) -> int:
        """A descriptor that yields the number of each signal that arrives."""
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, _ignore)  # a handler there must be, for the descriptor to hear of it
        for number in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C is the supervisor's to act on
            signal.signal(number, signal.SIG_IGN)
        return reading

    def _start(self, output: int) -> int:
        guard = os.getpid()

        def die_with_the_guard() -> None:
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:  # it died before the request was made
                os._exit(CANNOT_START)

        engine = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=die_with_the_guard,
        )
        engine.returncode = 0  # waited for below with everything else, so that Popen never does
        return engine.pid

    def _copy(self, output: int) -> bytes | None:
        """Moves what the engine wrote into the log and returns it: empty at the end, None when there is none now."""
        try:
            data = os.read(output, READ_SIZE)
        except BlockingIOError:
            return None
        if data:
            self._log.write(data)
        return data

    def _end(self, why: str) -> None:
        if self._kill_at is None and self._status is None:
            self._log.note(f"stopping: {why}")
            self._kill_at = time.monotonic() + self._grace
            kill([self._engine], signal.SIGTERM)  # only the engine: it ends its own children in its own order

    def _patience(self) -> float | None:
        return None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())

    def _reap(self) -> bool:
        """Buries the dead, adopted ones too; True once the engine itself is among them."""
        while self._status is None:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self._engine:
                code = os.waitstatus_to_exitcode(status)
                self._status = code if code >= 0 else 128 - code
        return self._status is not None

    def _end_the_rest(self) -> None:
        """What the engine left behind: a moment to clean up after itself, then SIGKILL.

        Python's resource tracker goes last: once the others are gone it frees the shared memory they had.
        """
        kill(descendants(os.getpid()), signal.SIGTERM)
        if self._all_buried(LEAVE_WITHIN):
            return
        left = descendants(os.getpid())
        self._log.note(f"killing what it left behind: {' '.join(map(str, sorted(left)))}")
        kill(pid for pid in left if not is_resource_tracker(pid))
        if self._all_buried(LEAVE_WITHIN) or self._all_buried(KILL_WITHIN, killing=True):
            return
        self._log.note("some of its processes survive SIGKILL; they are stuck in the kernel")

    def _all_buried(self, within: float, *, killing: bool = False) -> bool:
        """Waits for the children that are left, adopted ones too; True when there is none any more."""
        give_up_at = time.monotonic() + within
        while True:
            if killing:
                kill(descendants(os.getpid()))
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return True
            if time.monotonic() >= give_up_at:
                return False
            time.sleep(BURY_EVERY)


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


def main() -> int:
    parser = argparse.ArgumentParser(description="Run one engine and take it down with the supervisor.")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--log-bytes", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    return Guard(args.command, BoundedLog(args.log, args.log_bytes), args.grace).run()


if __name__ == "__main__":
    sys.exit(main())
