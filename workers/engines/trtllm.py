"""Starts TensorRT-LLM's OpenAI server (`trtllm-serve`).

Built to the contract of TensorRT-LLM 1.2 and later as NVIDIA documents it. It has not been run: that needs an NVIDIA
GPU. What is tested is the command line, the environment and the probe that come out of a fleet's YAML.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from workers.engines.spec import CannotLaunch, Job, LaunchSpec

ENVIRONMENT = {"HF_HUB_OFFLINE": "1"}

# TensorRT-LLM's names for the linear layers of a Llama-like block, and the checkpoint's.
LORA_MODULES = {
    "attn_q": "q_proj",
    "attn_k": "k_proj",
    "attn_v": "v_proj",
    "attn_dense": "o_proj",
    "mlp_h_to_4h": "gate_proj",
    "mlp_gate": "up_proj",
    "mlp_4h_to_h": "down_proj",
}


def python(checkout: Path, environ: Mapping[str, str]) -> Path:
    """The interpreter that has TensorRT-LLM: what TOLLGATE_TRTLLM_PYTHON names, or `.venvs/trtllm` of the checkout."""
    chosen = Path(environ.get("TOLLGATE_TRTLLM_PYTHON") or checkout / ".venvs/trtllm/bin/python")
    if not os.access(chosen, os.X_OK):
        raise CannotLaunch(
            f"the TensorRT-LLM environment is missing: no {chosen}; install TensorRT-LLM there as NVIDIA's guide"
            " describes, or set TOLLGATE_TRTLLM_PYTHON to a Python that has it"
        )
    return chosen


def spec(job: Job, python: str) -> LaunchSpec:
    """The command line, and the options that only its YAML file takes. `launch.args` come last and override."""
    if job.model.task == "embed":
        raise CannotLaunch(f"worker {job.worker.name}: trtllm-serve has no embeddings; use `engine: vllm`")
    launch = job.worker.launch
    options = job.run_dir / f"{job.worker.name}.trtllm.yaml"
    command = (
        python,
        "-m",
        "tensorrt_llm.commands.serve",
        job.artifact,
        *("--served_model_name", job.served_name),
        *("--backend", "pytorch"),
        *("--host", "127.0.0.1"),
        *("--port", str(job.port)),
        *("--max_seq_len", str(job.model.context)),
        *("--tp_size", str(job.worker.gpus)),
        *("--config", str(options)),
        *(launch.args if launch else ()),
    )
    return LaunchSpec(
        name=job.worker.name,
        port=job.port,
        command=command,
        env=ENVIRONMENT | dict(launch.env if launch else {}),
        health_path="/health",
        inference=job.inference,
        files={options: json.dumps(_options(job), indent=2) + "\n"},  # JSON is YAML
    )


def _options(job: Job) -> dict[str, object]:
    """Load figures on /metrics and /prometheus/metrics; room for adapters, which requests name by themselves."""
    options: dict[str, object] = {"enable_iter_perf_stats": True, "return_perf_metrics": True}
    if job.adapters:
        options["lora_config"] = {
            "lora_target_modules": list(LORA_MODULES),
            "trtllm_modules_to_hf_modules": LORA_MODULES,
            "max_lora_rank": max(adapter.rank for adapter in job.adapters),
            "max_loras": job.worker.max_loras,
            "max_cpu_loras": max(job.worker.max_loras, len(job.adapters)),
        }
    return options
