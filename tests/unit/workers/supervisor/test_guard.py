"""The guard as a program: what it logs, how it ends, what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.eventually import WITHIN, eventually
from workers.supervisor import guard

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


@pytest.fixture
def start(log: Path) -> Iterator[Start]:
    """Starts a guard whose supervisor is this process: closing `stdin` is the supervisor's death."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*command: str, limit: int = 1 << 20, grace: float = 5.0) -> subprocess.Popen[bytes]:
        options = ("--log", str(log), "--log-bytes", str(limit), "--grace", str(grace))
        process = subprocess.Popen(
            [sys.executable, "-I", guard.__file__, *options, "--", *command],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(WITHIN)


def python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


def test_both_outputs_go_to_the_log(start: Start, log: Path) -> None:
    script = "import os; os.write(1, b'out\\n'); os.write(2, b'err\\n')"
    assert start(*python(script)).wait(WITHIN) == 0
    assert "\nout\nerr\n" in log.read_text()


def test_the_last_words_of_a_crash_are_not_lost(start: Start, log: Path) -> None:
    script = "import os; os.write(1, b'x' * 60_000 + b'last words'); os.abort()"
    assert start(*python(script)).wait(WITHIN) == 128 + signal.SIGABRT
    assert "last words" in log.read_text()


@pytest.mark.parametrize("status", [0, 1, 77])
def test_the_exit_status_is_the_engines(start: Start, status: int) -> None:
    assert start(*python(f"raise SystemExit({status})")).wait(WITHIN) == status


def test_a_program_that_is_not_there(start: Start, log: Path) -> None:
    assert start("/nowhere/engine").wait(WITHIN) == guard.CANNOT_START
    assert "could not start /nowhere/engine: No such file or directory" in log.read_text()


def test_arguments_arrive_as_they_are(start: Start, log: Path) -> None:
    arguments = ("--grace", "9", "--", "a b", "")
    start(*python("import sys; print(sys.argv[1:])"), *arguments).wait(WITHIN)
    assert str(list(arguments)) in log.read_text()


def test_the_log_is_bounded(start: Start, log: Path) -> None:
    script = "import os\nfor i in range(400): os.write(1, b'%03d' % i + b'.' * 1000)\nos.write(1, b'the end')"
    start(*python(script), limit=70_000).wait(WITHIN)
    before = log.with_name("engine.log.1")
    assert sorted(path.name for path in log.parent.iterdir()) == ["engine.log", "engine.log.1"]
    assert log.stat().st_size <= 70_000
    assert before.stat().st_size <= 70_000
    assert "the end" in before.read_text() + log.read_text()


def test_an_earlier_log_is_continued(start: Start, log: Path) -> None:
    log.write_text("earlier\n")
    start(*python("print('later')")).wait(WITHIN)
    assert log.read_text().startswith("earlier\n")
    assert "later" in log.read_text()


def test_the_end_of_the_pipe_is_passed_on_as_sigterm(start: Start, log: Path) -> None:
    script = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); print('up', flush=True);"
        " signal.pause()"
    )
    process = start(*python(script))
    wait_for(log, "up\n")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(WITHIN) == 5


def test_sigterm_to_the_guard_does_the_same(start: Start, log: Path) -> None:
    process = start(*python("import signal; print('up', flush=True); signal.pause()"))
    wait_for(log, "up\n")
    process.terminate()
    assert process.wait(WITHIN) == 128 + signal.SIGTERM


def test_ctrl_c_is_not_for_the_engine(start: Start, log: Path) -> None:
    process = start(*python("import signal; print('up', flush=True); signal.pause()"))
    wait_for(log, "up\n")
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGHUP)
    process.terminate()
    assert process.wait(WITHIN) == 128 + signal.SIGTERM


def test_signals_reach_the_engine_with_their_defaults(start: Start, log: Path) -> None:
    start(*python("import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_DFL)")).wait(WITHIN)
    assert "True\n" in log.read_text()


def test_shared_memory_of_a_killed_engine_is_freed(start: Start, log: Path) -> None:
    """The engine's child holds on for good; only once it is killed may Python's tracker unlink the memory."""
    script = (
        "import os, signal; from multiprocessing.shared_memory import SharedMemory\n"
        "memory = SharedMemory(create=True, size=1)\n"
        "if os.fork() == 0:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN); print(memory.name + ' made', flush=True)\n"
        "    while True: signal.pause()\n"
        "signal.pause()"
    )
    process = start(*python(script))
    wait_for(log, " made\n")
    name = log.read_text().split(" made\n")[0].splitlines()[-1]
    assert Path("/dev/shm", name).exists()
    [engine] = [pid for pid in guard.descendants(process.pid) if parent(pid) == process.pid]
    os.kill(engine, signal.SIGKILL)
    assert process.wait(WITHIN) == 128 + signal.SIGKILL
    assert not Path("/dev/shm", name).exists()


def test_descendants_are_found_through_every_generation() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen(python(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"1\n"
        found = guard.descendants(os.getpid())
        below = guard.descendants(child.pid)
        child.communicate(b"\n", timeout=WITHIN)
    assert child.pid in found
    assert len(below) == 1
    assert below < found


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_for(log: Path, text: str) -> None:
    eventually(lambda: log.exists() and text in log.read_text(), f"{text!r} in the log")
