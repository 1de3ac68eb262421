"""Runs node/openai.test.mjs, the OpenAI Node SDK's side of the contract."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.contract.conftest import KEY, Stack

HERE = Path(__file__).parent / "node"

pytestmark = [pytest.mark.engine, pytest.mark.node, pytest.mark.timeout(900)]


def test_openai_node_sdk(stack: Stack) -> None:
    run = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "openai.test.mjs"],
        cwd=HERE,
        env={**os.environ, "TOLLGATE_URL": stack.url, "TOLLGATE_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# pass 7" in run.stdout, run.stdout
