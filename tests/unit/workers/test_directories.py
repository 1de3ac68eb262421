from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workers import directories
from workers.directories import replaced
from workers.environments import PACKAGE_ROOT

HOLDS = """
import pathlib, sys
from workers.directories import replaced
with replaced(pathlib.Path(sys.argv[1])) as directory:
    (directory / "half").write_text("half")
    print("inside", flush=True)
    sys.stdin.read()
"""


def test_the_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    target = tmp_path / "models" / "a"
    target.mkdir(parents=True)
    (target / "old").write_text("old")

    with replaced(target) as directory:
        (directory / "new").write_text("new")
        assert (target / "old").exists()

    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in target.parent.iterdir()] == ["a"]


def test_a_failure_leaves_everything_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.mkdir()
    (target / "old").write_text("old")

    def fail() -> None:
        with replaced(target) as directory:
            (directory / "half").write_text("half")
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()

    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_files_are_readable_by_everyone(tmp_path: Path) -> None:
    with replaced(tmp_path / "a") as directory:
        (directory / "weights").touch(mode=0o600)

    assert (tmp_path / "a" / "weights").stat().st_mode & 0o777 == 0o644


def writing(target: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing `target`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, target],
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    return process


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with replaced(target) as directory:
        (directory / "old").write_text("old")
    with writing(target) as killed:
        killed.send_signal(signal.SIGKILL)
    assert [path.name for path in target.iterdir()] == ["old"]
    assert len(list(tmp_path.iterdir())) == 2

    with replaced(target) as directory:
        (directory / "new").write_text("new")

    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in target.iterdir()] == ["new"]


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with writing(target) as other:
        with replaced(target) as directory:
            (directory / "mine").write_text("mine")
        assert [path.name for path in target.iterdir()] == ["mine"]
        other.communicate("")

    assert other.returncode == 0
    assert [path.name for path in target.iterdir()] == ["half"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_neighbour_whose_name_is_longer_is_left_alone(tmp_path: Path) -> None:
    neighbour = tmp_path / ".a.b.abcdefgh.partial"
    neighbour.mkdir()

    with replaced(tmp_path / "a"):
        pass

    assert neighbour.is_dir()


def test_without_an_exchange_the_new_content_still_takes_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "_exchange", lambda *_: False)
    target = tmp_path / "a"
    target.mkdir()
    (target / "old").write_text("old")

    with replaced(target) as directory:
        (directory / "new").write_text("new")

    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_was_moved_away_by_a_killed_process_is_put_back(tmp_path: Path) -> None:
    old = tmp_path / ".a.abcdefgh.partial" / "old"
    old.mkdir(parents=True)
    (old / "weights").write_text("weights")

    directories.clear_leftovers(tmp_path / "a")

    assert (tmp_path / "a" / "weights").read_text() == "weights"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
