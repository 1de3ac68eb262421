"""Reading /proc: a made-up tree for the arithmetic, the real one for the format."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.procstat import PAGE, TICK, busy_elsewhere, descendants, usage


def process(proc: Path, pid: int, *, user: int, system: int, pages: int, children: str = "", gone: int = 0) -> None:
    home = proc / str(pid)
    (home / "task" / str(pid)).mkdir(parents=True)
    before = " ".join(["0"] * 10)
    (home / "stat").write_text(f"{pid} (a name) with (parens) S {before} {user} {system} {gone} 0 20 0 1 0 0")
    (home / "statm").write_text(f"9999 {pages} 1 1 0 1 0")
    (home / "task" / str(pid) / "children").write_text(children)


def test_a_tree_is_summed(tmp_path: Path) -> None:
    process(tmp_path, 1, user=100, system=10, pages=5, children="2 3 ", gone=7)
    process(tmp_path, 2, user=20, system=2, pages=3, children="4")
    process(tmp_path, 3, user=0, system=0, pages=1)
    process(tmp_path, 4, user=1, system=0, pages=1)
    measured = usage(1, tmp_path)
    assert measured.cpu_seconds == pytest.approx((110 + 7 + 22 + 1) * TICK)
    assert (measured.rss_bytes, measured.own_rss_bytes) == (10 * PAGE, 5 * PAGE)
    assert sorted(descendants(1, tmp_path)) == [2, 3, 4]


def test_a_child_that_ends_meanwhile_is_left_out(tmp_path: Path) -> None:
    process(tmp_path, 1, user=5, system=0, pages=1, children="2")
    assert usage(1, tmp_path).cpu_seconds == pytest.approx(5 * TICK)
    with pytest.raises(ProcessLookupError):
        usage(2, tmp_path)


def test_real_processes_count_with_their_children() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        assert parent.stdin
        assert parent.stdout.readline() == "1\n"
        (child,) = descendants(parent.pid)
        both, alone = usage(parent.pid), usage(child)
        assert both.rss_bytes > alone.rss_bytes > 1_000_000
        assert both.cpu_seconds >= alone.cpu_seconds
        parent.stdin.write("\n")
    assert usage(os.getpid()).rss_bytes > 0


def test_how_busy_a_machine_is(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  100 0 50 800 50 0 0 0 0 0\n")
    assert busy_elsewhere(0.0, tmp_path) == 0.0  # nothing passed between the two looks
    assert 0.0 <= busy_elsewhere(0.01) <= 1.0
