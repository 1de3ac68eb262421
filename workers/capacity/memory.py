"""How one GPU's memory is shared out: weights, what the engine needs beside them, and the KV cache that is left.

vLLM takes `gpu_memory_utilization` of the memory, and measures activations and graphs in a trial run of its largest
step (vllm/v1/worker/gpu_worker.py), which is estimated here.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.capacity import kv_cache
from workers.capacity.architecture import Model
from workers.capacity.gpus import Gpu
from workers.capacity.kv_cache import BLOCK_TOKENS, CPU_BLOCK_TOKENS, KvCache
from workers.capacity.quantizations import MIXED_BITS
from workers.capacity.units import GIB
from workers.capacity.weights import weights_bytes

UTILIZATION = 0.92  # vLLM's default since 0.20 (vllm/config/cache.py)
GRAPHS_BYTES = 3 * GIB // 4  # CUDA graphs, workspaces of attention kernels, fragments
COLLECTIVES_BYTES = GIB // 2  # NCCL's and the custom all-reduce's buffers
CPU_PROCESS_BYTES = (
    6 * GIB // 10
)  # the interpreter with its libraries, in the same memory: vLLM 0.32 with --enforce-eager


@dataclass(frozen=True, slots=True)
class Settings:
    """How the engine is started. None: as vLLM would choose."""

    utilization: float = UTILIZATION
    kv_cache_bytes: int | None = None  # --kv-cache-memory-bytes: then nothing is left to the estimate
    kv_cache_bits: int | None = None
    block_tokens: int | None = None
    max_requests: int | None = None  # --max-num-seqs
    mixed_bits: float = MIXED_BITS


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one GPU, in bytes. `kv_cache_bytes` is negative where not even the weights fit."""

    usable_bytes: int
    weights_bytes: int
    overhead_bytes: int
    kv_cache_bytes: int
    kv_cache_bits: int
    cache: KvCache

    @property
    def free_bytes(self) -> int:
        """What is left beside all three, negative where they are too much."""
        return self.usable_bytes - self.weights_bytes - self.overhead_bytes - self.kv_cache_bytes


def batch_defaults(gpu: Gpu) -> tuple[int, int]:
    """Tokens of one step and requests at once, as vLLM's server chooses them (vllm/engine/arg_utils.py)."""
    if gpu.is_cpu:
        return 2048, 128
    if gpu.memory_bytes >= 160 * GIB:
        return 16384, 1024
    if gpu.memory_bytes >= 70 * GIB and not gpu.name.startswith("a100"):
        return 8192, 1024
    return 2048, 256


def default_block_tokens(model: Model, gpu: Gpu) -> int:
    """As vLLM chooses it: the CPU kernel for latent attention takes small ones only (vllm/platforms/cpu.py)."""
    latent = any(group.latent for group in model.attention)
    return CPU_BLOCK_TOKENS if gpu.is_cpu and not latent else BLOCK_TOKENS


def max_requests(gpu: Gpu, settings: Settings) -> int:
    return settings.max_requests or batch_defaults(gpu)[1]


def share_out(model: Model, quantization: str, gpu: Gpu, tensor_parallel: int, settings: Settings) -> Memory:
    """What each of `tensor_parallel` GPUs holds."""
    weights = weights_bytes(model, quantization, tensor_parallel, settings.mixed_bits)
    overhead = overhead_bytes(model, gpu, tensor_parallel, settings)
    usable = usable_bytes(gpu, settings)
    left = usable - weights - overhead if settings.kv_cache_bytes is None else settings.kv_cache_bytes
    bits = settings.kv_cache_bits or model.kv_cache_bits
    cache = kv_cache.fill(
        model,
        left,
        cache_bits=bits,
        block_tokens=settings.block_tokens or default_block_tokens(model, gpu),
        batched_tokens=batch_defaults(gpu)[0],
        tensor_parallel=tensor_parallel,
    )
    return Memory(usable, weights, overhead, left, bits, cache)


def usable_bytes(gpu: Gpu, settings: Settings) -> int:
    """All of it where the cache is given its size, else the share that the engine takes."""
    return gpu.memory_bytes if settings.kv_cache_bytes is not None else round(gpu.memory_bytes * settings.utilization)


def overhead_bytes(model: Model, gpu: Gpu, tensor_parallel: int, settings: Settings) -> int:
    """Activations of the largest step, and what engine and driver keep."""
    tokens = batch_defaults(gpu)[0]
    widest = 4 * model.hidden_size + (3 * model.intermediate_size + 2 * model.heads * model.head_dim) // tensor_parallel
    logits = max_requests(gpu, settings) * model.vocab_size * (2 + 4)  # 16-bit, then 32-bit for sampling
    activations = 2 * tokens * widest + logits
    if gpu.is_cpu:
        return CPU_PROCESS_BYTES + activations
    return activations + GRAPHS_BYTES + (COLLECTIVES_BYTES if tensor_parallel > 1 else 0)
