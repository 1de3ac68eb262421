from __future__ import annotations

from pathlib import Path

import pytest

from workers.errors import WrongUsage
from workers.quantization.engine import check_bitsandbytes


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine environment whose vLLM loads what is put into the directory."""
    python = tmp_path / ".venvs/engine/bin/python"
    python.parent.mkdir(parents=True)
    python.touch(0o755)
    monkeypatch.delenv("TOLLGATE_ENGINE_PYTHON", raising=False)
    methods = tmp_path / ".venvs/engine/lib/python3.11/site-packages/vllm/model_executor/layers/quantization"
    methods.mkdir(parents=True)
    return methods


def test_an_engine_that_loads_it_is_accepted(tmp_path: Path, environment: Path) -> None:
    (environment / "bitsandbytes.py").touch()

    check_bitsandbytes(tmp_path)


def test_an_engine_that_does_not_is_named_with_what_to_do(tmp_path: Path, environment: Path) -> None:
    (environment / "fp8.py").touch()

    with pytest.raises(WrongUsage, match=r"(?s)no loader of bitsandbytes.*w4a16-awq.*--for-other-engine"):
        check_bitsandbytes(tmp_path)


def test_without_an_engine_nothing_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOLLGATE_ENGINE_PYTHON", raising=False)

    with pytest.raises(WrongUsage, match=r"(?s)cannot be seen.*--for-other-engine"):
        check_bitsandbytes(tmp_path)
