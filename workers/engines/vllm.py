"""Starts vLLM's OpenAI server."""

from __future__ import annotations

from workers.engines.spec import CannotLaunch, Job, LaunchSpec

# The only ranks vLLM allocates for; an adapter of rank 12 needs 16.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # vLLM closes an idle connection after 5 s by default, so a pooled one would often be stale when it is needed.
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "300",
}

LORA_ENVIRONMENT = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}  # the gateway loads and unloads adapters

# The model runs in the engine's process instead of one more: a third less memory and time to start.
CPU_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
# Without a size the KV cache takes half of the machine's memory. Not VLLM_CPU_KVCACHE_SPACE, which counts in GiB and
# would win over a size in `launch.args`.
CPU_ARGUMENTS = ("--dtype", "bfloat16", "--enforce-eager", "--kv-cache-memory-bytes", str(2**30))


def spec(job: Job, python: str) -> LaunchSpec:
    """The command line. `launch.args` come last, so they override what is chosen here; so does `launch.env`."""
    launch = job.worker.launch
    cpu = job.runs_on_cpu
    command = (
        python,
        "-m",
        "vllm.entrypoints.openai.api_server",
        *("--model", job.artifact),
        *("--served-model-name", job.served_name),
        *("--host", "127.0.0.1"),
        *("--port", str(job.port)),
        *("--max-model-len", str(job.model.context)),
        *(("--tensor-parallel-size", str(job.worker.gpus)) if job.worker.gpus > 1 and not cpu else ()),
        "--enable-prompt-tokens-details",
        "--enable-per-request-metrics",
        "--disable-uvicorn-access-log",  # the gateway logs every request already
        *(CPU_ARGUMENTS if cpu else ()),
        *(("--runner", "pooling", "--convert", "embed") if job.model.task == "embed" else ()),
        *_lora(job),
        *(launch.args if launch else ()),
    )
    return LaunchSpec(
        name=job.worker.name,
        port=job.port,
        command=command,
        env=ENVIRONMENT
        | (CPU_ENVIRONMENT if cpu else {})
        | (LORA_ENVIRONMENT if job.worker.max_loras else {})
        | dict(launch.env if launch else {}),
        health_path="/health",
        inference=job.inference,
    )


def _lora(job: Job) -> tuple[str, ...]:
    """Room for adapters, which the gateway loads; of the rank of those that are configured, or vLLM's own default."""
    if not job.worker.max_loras:
        return ()
    rank = ("--max-lora-rank", str(_allocated_rank(job))) if job.adapters else ()
    return "--enable-lora", "--max-loras", str(job.worker.max_loras), *rank


def _allocated_rank(job: Job) -> int:
    largest = max(job.adapters, key=lambda adapter: adapter.rank)
    allocated = next((rank for rank in LORA_RANKS if rank >= largest.rank), None)
    if allocated is None:
        raise CannotLaunch(
            f"worker {job.worker.name}: {largest.name} has rank {largest.rank}, vLLM takes {LORA_RANKS[-1]} at most;"
            " train the adapter with a smaller rank"
        )
    return allocated
