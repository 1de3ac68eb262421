"""`tollgate-worker plan` against what a real vLLM allocates for the demo models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.environments import ENGINE

ROOT = Path(__file__).resolve().parents[2]
# Two engines in one process: unquantized, and packed with a context that is no multiple of the block.
CASES = (("scribe", 134_217_728, 2048, 128), ("scribe-int4", 100_000_000, 1000, 32))

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def measured() -> list[dict[str, int]]:
    asked = [
        f"{ROOT}/var/models/{model},{kv_cache_bytes},{context},{block}"
        for model, kv_cache_bytes, context, block in CASES
    ]
    finished = subprocess.run(
        [ENGINE.python(ROOT), Path(__file__).with_name("engine_memory.py"), *asked],
        capture_output=True,
        text=True,
        timeout=800,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case[0] for case in CASES])
def test_plan_agrees_with_the_engine(number: int, measured: list[dict[str, int]]) -> None:
    model, kv_cache_bytes, context, block = CASES[number]
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "workers.cli", "plan", f"{ROOT}/var/models/{model}", "--format", "json"),
            *("--gpu", "cpu", "--kv-cache-memory", f"{kv_cache_bytes}B", "--context", str(context)),
            *("--block-size", str(block), "--quantization", "w4a16" if "int4" in model else "none"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert finished.returncode == 0, finished.stderr
    planned = json.loads(finished.stdout)["possible"][0]
    engine = measured[number]

    assert planned["weights_bytes_per_gpu"] == pytest.approx(engine["weights_bytes"], rel=0.01)
    assert planned["kv_cache_tokens"] == engine["kv_cache_tokens"]
    assert planned["kv_cache_blocks"] == engine["kv_cache_blocks"]


def test_a_quantized_version_is_as_large_as_planned_from_the_checkpoint_it_is_made_of(
    measured: list[dict[str, int]],
) -> None:
    from workers.capacity.checkpoint import read_model
    from workers.capacity.weights import weights_bytes

    planned = weights_bytes(read_model(ROOT / "var/models/scribe"), "w4a16")

    assert planned == pytest.approx(measured[1]["weights_bytes"], rel=0.01)
