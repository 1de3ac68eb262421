"""vLLM's own load generator pointed at the gateway: every request is answered, every token seen."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.gateway_process import KEY, GatewayProcess, configuration
from tests.live_worker import LiveWorker

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
ENGINE_PYTHON = os.environ.get("TOLLGATE_ENGINE_PYTHON", str(ROOT / ".venvs/engine/bin/python"))
TOKENIZER = ROOT / "workers/demo/checkpoints/scribe"
REQUESTS, TOKENS = 30, 16

# The CPU packages of vLLM bring no `vllm` command; `vllm bench serve` is this.
BENCH_SERVE = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


@pytest.mark.parametrize(
    ("backend", "endpoint"), [("openai-chat", "/v1/chat/completions"), ("openai", "/v1/completions")]
)
def test_bench_serve_measures_the_gateway(tmp_path: Path, backend: str, endpoint: str) -> None:
    with LiveWorker() as worker, GatewayProcess(tmp_path, configuration({"w1": worker.url})) as gateway:
        gateway.wait_ready()
        command = [ENGINE_PYTHON, "-c", BENCH_SERVE, "--backend", backend, "--endpoint", endpoint]
        command += ["--base-url", gateway.url, "--model", "tiny", "--tokenizer", str(TOKENIZER)]
        command += ["--dataset-name", "random", "--random-input-len", "16", "--random-output-len", str(TOKENS)]
        command += ["--num-prompts", str(REQUESTS), "--request-rate", "50", "--ignore-eos"]
        command += ["--save-result", "--result-dir", str(tmp_path), "--result-filename", "result.json"]
        environ = {**os.environ, "OPENAI_API_KEY": KEY, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads((tmp_path / "result.json").read_text())
        assert (found["completed"], found["failed"]) == (REQUESTS, 0)
        assert found["total_output_tokens"] == REQUESTS * TOKENS
        assert gateway.metric("tollgate_requests_total", tenant="acme", status="200") >= REQUESTS
