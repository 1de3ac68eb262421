from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.environments import PACKAGE_ROOT, QUANTIZE
from workers.errors import WorkerToolError


def test_a_missing_environment_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(WorkerToolError, match=r"quantize environment is missing: .*\n.*make quantize-env"):
        QUANTIZE.python(tmp_path, {})


def test_the_environment_of_the_checkout_is_found(tmp_path: Path) -> None:
    python = tmp_path / ".venvs" / "quantize" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)

    assert QUANTIZE.python(tmp_path, {}) == python


def test_the_override_wins_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    assert QUANTIZE.python(tmp_path, {"TOLLGATE_QUANTIZE_PYTHON": sys.executable}) == Path(sys.executable)

    with pytest.raises(WorkerToolError, match="correct TOLLGATE_QUANTIZE_PYTHON"):
        QUANTIZE.python(tmp_path, {"TOLLGATE_QUANTIZE_PYTHON": str(tmp_path / "nothing")})


def test_becoming_another_environment_keeps_arguments_exit_code_and_imports(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$PYTHONPATH|$*"\nexit 7\n')
    python.chmod(0o755)
    code = (
        "from pathlib import Path; from workers.environments import QUANTIZE, become;"
        "become(QUANTIZE, 'workers.some', ['--out', 'a b'], Path.cwd())"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT), "TOLLGATE_QUANTIZE_PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 7
    assert done.stdout == f"{PACKAGE_ROOT}{os.pathsep}{PACKAGE_ROOT}|-m workers.some --out a b\n"
