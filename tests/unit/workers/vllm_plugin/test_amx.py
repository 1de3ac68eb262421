from __future__ import annotations

import os
import platform
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from workers.vllm_plugin.tollgate_vllm_plugin import amx

PLUGIN = Path(amx.__file__).parent.parent


@pytest.mark.parametrize(("answer", "granted"), [(0, True), (-1, False)])
def test_the_kernel_is_asked_for_the_tile_data_state(answer: int, granted: bool) -> None:
    asked: list[tuple[int, int, int]] = []

    def syscall(number: int, first: int, second: int) -> int:
        asked.append((number, first, second))
        return answer

    assert amx.granted_by(syscall) is granted
    assert asked == [(158, 0x1023, 18)]


@pytest.mark.parametrize(("system", "machine"), [("darwin", "x86_64"), ("linux", "aarch64"), ("win32", "AMD64")])
def test_elsewhere_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, system: str, machine: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)

    assert amx.request_tile_permission() is False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_a_process_survives_asking_and_is_granted_what_its_cpu_has() -> None:
    has_amx = "amx_tile" in Path("/proc/cpuinfo").read_text()

    done = subprocess.run(
        [sys.executable, "-c", "import tollgate_vllm_plugin.amx as a; print(a.request_tile_permission())"],
        env={**os.environ, "PYTHONPATH": str(PLUGIN)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == str(has_amx)


def test_the_entry_point_names_a_function_that_exists() -> None:
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    module, _, function = project["entry-points"]["vllm.general_plugins"]["tollgate_amx"].partition(":")

    assert callable(getattr(import_module(f"workers.vllm_plugin.{module}"), function))
