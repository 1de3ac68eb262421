"""Engine processes: their files, their guards, their end. The only file that starts or kills anything."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from workers.engines.spec import LaunchSpec
from workers.supervisor import guard
from workers.supervisor.excerpt import last_words
from workers.supervisor.ports import why_taken

LOG_BYTES = 16 * 1024 * 1024
LOG_READ_BYTES = 1024 * 1024
CLAIM_EVERY = 0.1
SWEEP_EVERY = 0.02
OUR_PYTHON = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"})


class CannotStart(Exception):
    """The engine could not be started now; the message says why."""


class Engines:
    """Every engine that this process runs. There is one of these per process: what loses its parent is ours to bury.

    `grace` is how long an engine may take to end by itself after SIGTERM.
    """

    def __init__(self, log_dir: Path, grace: float) -> None:
        self._log_dir = log_dir
        self._grace = grace
        self._guards: set[int] = set()
        log_dir.mkdir(parents=True, exist_ok=True)
        # When a guard is killed, its engine's children become ours instead of init's, and _sweep finds them.
        guard.prctl(guard.PR_SET_CHILD_SUBREAPER, 1)

    @property
    def longest_end(self) -> float:
        """By then an engine that was told to end is gone, whatever it does."""
        return self._grace + 2 * guard.LEAVE_WITHIN + guard.KILL_WITHIN + 5.0

    def log(self, name: str) -> Path:
        return self._log_dir / f"{name}.log"

    async def claim(self, name: str, is_wanted: Callable[[], bool]) -> Claim:
        """The right to run the worker `name` with this log directory, which one launcher at a time has.

        Two locks on one file: a living launcher holds the first, so a second launcher is refused at once. The other is
        shared with the guards, which outlive a killed launcher by a moment; a new launcher waits for that to pass.
        """
        path = self._log_dir / f"{name}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # owned by the process: never inherited
            await self._until_leftovers_are_gone(fd, name, is_wanted)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode() or "unknown"
            os.close(fd)
            raise CannotStart(f"another launcher runs it already (pid {holder}); stop that one first") from None
        except CannotStart:
            os.close(fd)
            raise
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        return Claim(fd)

    async def _until_leftovers_are_gone(self, fd: int, name: str, is_wanted: Callable[[], bool]) -> None:
        for _ in range(int(self.longest_end / CLAIM_EVERY)):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # owned by the open file: every guard inherits it
            except BlockingIOError:
                if not is_wanted():
                    break
                await asyncio.sleep(CLAIM_EVERY)
            else:
                return
        raise CannotStart(f"the engine of an earlier launcher does not end; its log is {self.log(name)}")

    def start(self, spec: LaunchSpec, claim: Claim) -> EngineRun:
        """Starts the engine under a guard of its own."""
        taken = why_taken(spec.port)
        if taken:
            raise CannotStart(f"{taken}; stop it, or change `launch.port`")
        for path, text in spec.files.items():
            path.write_text(text)
        log = self.log(spec.name)
        began_at = log.stat().st_size if log.exists() else 0
        process, writing = start_guarded(spec.command, spec.env, log, self._grace, pass_fds=(claim.fd,))
        self._guards.add(process.pid)
        return EngineRun(self, process, writing, log, began_at)

    async def buried(self, process: subprocess.Popen[bytes]) -> None:
        """The guard has exited. When it was killed, what it guarded is still to be found and ended."""
        self._guards.discard(process.pid)
        if process.returncode >= 0:
            return
        for _ in range(int(guard.KILL_WITHIN / SWEEP_EVERY)):
            if not self._sweep():
                return
            await asyncio.sleep(SWEEP_EVERY)

    def _sweep(self) -> bool:
        """Kills and buries what runs below this process without a guard; True when there was any."""
        guarded = {pid for living in self._guards for pid in (living, *guard.descendants(living))}
        orphans = guard.descendants(os.getpid(), with_zombies=True) - guarded
        guard.kill(orphans)
        for pid in orphans:
            with contextlib.suppress(ChildProcessError):  # a grandchild: ours once its parent is buried
                os.waitpid(pid, os.WNOHANG)
        return bool(orphans)


class Claim:
    """A lock that is free again once this process and every guard it was passed to have closed it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def release(self) -> None:
        os.close(self.fd)


class EngineRun:
    """One run of an engine, from its start to the moment when nothing of it is left."""

    def __init__(self, engines: Engines, process: subprocess.Popen[bytes], pipe: int, log: Path, began_at: int) -> None:
        self._engines = engines
        self._process = process
        self._pipe: int | None = pipe
        self._log = log
        self._began_at = began_at
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.Event()
        self._last_resort: asyncio.TimerHandle | None = None
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)

    async def gone(self) -> None:
        """Waits until the engine and all it spawned have ended."""
        await self._exited.wait()
        await self._engines.buried(self._process)

    def end(self) -> None:
        """SIGTERM, time to obey, SIGKILL: the guard does it. Should the guard not, it is killed and swept after."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
            self._last_resort = self._loop.call_later(self._engines.longest_end, self._process.kill)

    @property
    def outcome(self) -> str:
        """How it ended, in words."""
        code = self._process.returncode
        if code < 0:
            return f"its guard was killed by {_signal_name(-code)}"
        if code > 128:
            return f"killed by {_signal_name(code - 128)}"
        return f"exited with status {code}"

    def last_words(self) -> list[str]:
        """What its log says of its end."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            begin = self._began_at if self._began_at <= size else 0  # rotated meanwhile
            log.seek(max(begin, size - LOG_READ_BYTES))
            return last_words(log.read(LOG_READ_BYTES).decode(errors="replace"))
        return []

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._process.wait()
        if self._last_resort is not None:
            self._last_resort.cancel()
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        self._exited.set()


def start_guarded(
    command: Sequence[str], env: Mapping[str, str], log: Path, grace: float, pass_fds: Sequence[int] = ()
) -> tuple[subprocess.Popen[bytes], int]:
    """Starts a command under a guard of its own: the guard's process, and the pipe that ends them all when it closes.

    `env` goes on top of this process's own. Raises CannotStart.
    """
    reading, writing = os.pipe()
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-I", guard.__file__),
                    *("--log", str(log), "--log-bytes", str(LOG_BYTES), "--grace", str(grace)),
                    *("--", *command),
                ],
                stdin=reading,
                stdout=output,
                stderr=output,
                env=_environment() | dict(env),
                pass_fds=pass_fds,
                start_new_session=True,  # Ctrl-C is for the supervisor, which ends engines in its own order
            )
    except OSError as error:
        os.close(writing)
        raise CannotStart(f"the guard process could not be started: {error}") from error
    finally:
        os.close(reading)
    return process, writing


def _environment() -> dict[str, str]:
    """Ours, without what would make another environment's Python import from here."""
    return {name: value for name, value in os.environ.items() if name not in OUR_PYTHON}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
