"""Which interpreter the gateway's environment is made from, among builds that only say what they would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FASTEST_PYTHON = Path(__file__).resolve().parents[3] / "deploy/fastest-python"

Build = Callable[..., str]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(name: str, *, ns: int, version: str = "3.11", new: bool = True, venv: bool = True, headers: bool = True):
        """A stand-in that answers each program it is given."""
        path = tmp_path / name
        path.write_text(
            f"""#!/bin/sh
            case "$3" in
                *process_time_ns*) echo {ns}; echo measured >> {tmp_path}/log ;;
                *realpath*) echo {path} ;;
                *'"%d.%d"'*) echo {version} ;;
                *version_info*) exit {int(not new)} ;;
                *Python.h*) exit {int(not (venv and headers))} ;;
                *ensurepip*) exit {int(not venv)} ;;
                *) exit 2 ;;
            esac
            """
        )
        path.chmod(0o755)
        return str(path)

    return make


def run(*candidates: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FASTEST_PYTHON, *candidates], capture_output=True, text=True, check=False)


def chosen(*candidates: str) -> str:
    done = run(*candidates)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.removesuffix("\n")


def test_another_build_is_taken_where_it_is_clearly_faster(build: Build) -> None:
    mine, system = build("mine", ns=1000), build("system", ns=900)
    assert chosen(mine, system) == system
    assert chosen(system, mine) == system


def test_the_first_stays_where_the_other_is_hardly_faster(build: Build) -> None:
    mine, system = build("mine", ns=1000), build("system", ns=901)
    assert chosen(mine, system) == mine


def test_another_version_is_not_chosen_for_its_speed(build: Build) -> None:
    mine, system = build("mine", ns=1000), build("system", ns=500, version="3.12")
    assert chosen(mine, system) == mine


def test_one_interpreter_under_two_names_is_not_measured(build: Build, tmp_path: Path) -> None:
    mine = build("mine", ns=1000)
    assert chosen(mine, mine) == mine
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("lacks", ["new", "venv", "headers"])
def test_the_other_will_do_where_the_first_will_not(build: Build, lacks: str) -> None:
    mine, system = build("mine", ns=500, **{lacks: False}), build("system", ns=1000)
    assert chosen(mine, system) == system
    assert chosen(system, mine) == system
    assert chosen("/nowhere/python3", system) == system


def test_one_that_cannot_compile_is_better_than_none(build: Build) -> None:
    old, plain = build("old", ns=1, new=False), build("plain", ns=1, headers=False)
    assert chosen(old, plain) == plain


def test_nothing_that_will_do_is_said_with_the_remedy(build: Build) -> None:
    done = run("/nowhere/python3", build("old", ns=1, new=False), build("bare", ns=1, venv=False))
    assert (done.returncode, done.stdout) == (1, "")
    assert "3.11" in done.stderr
    assert "python3-venv" in done.stderr


def test_an_interpreter_is_really_measured(tmp_path: Path) -> None:
    """The same one under another name, so that either may win."""
    other = tmp_path / "other"
    other.write_text(f'#!/bin/sh\ncase "$3" in *realpath*) echo other ;; *) exec {sys.executable} "$@" ;; esac\n')
    other.chmod(0o755)
    assert chosen(sys.executable, str(other)) in (sys.executable, str(other))
