"""What vLLM holds of each checkpoint named, as JSON lines. Runs in the engine's environment.

On a CPU vLLM logs no size of the weights, so they are counted as its loader leaves them, before kernels repack them.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

os.environ.update(
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_NO_USAGE_STATS="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    OMP_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
)

from vllm import LLM  # pyright: ignore
from vllm.distributed import cleanup_dist_env_and_memory  # pyright: ignore
from vllm.model_executor.model_loader import register_model_loader  # pyright: ignore
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader  # pyright: ignore

loaded_bytes = 0


@register_model_loader("counting")
class CountingLoader(DefaultModelLoader):
    """Loads as always, and counts what parameters and buffers take."""

    def __init__(self, load_config: Any) -> None:
        load_config.load_format = "auto"
        super().__init__(load_config)

    def load_weights(self, model: Any, model_config: Any) -> None:
        global loaded_bytes
        super().load_weights(model, model_config)
        storages = {}
        for tensor in (*model.parameters(), *model.buffers()):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        loaded_bytes = sum(storages.values())


def measure(name: str, kv_cache_bytes: int, context: int, block_tokens: int) -> dict[str, int]:
    engine = LLM(
        name,
        dtype="bfloat16",
        enforce_eager=True,
        load_format="counting",
        max_model_len=context,
        kv_cache_memory_bytes=kv_cache_bytes,
        block_size=block_tokens,
    )
    cache = engine.llm_engine.vllm_config.cache_config
    found = {
        "weights_bytes": loaded_bytes,
        "kv_cache_tokens": cache.kv_cache_size_tokens,
        "kv_cache_blocks": cache.num_gpu_blocks,
    }
    del engine
    gc.collect()
    cleanup_dist_env_and_memory()
    return found


if __name__ == "__main__":
    for asked in sys.argv[1:]:
        model, kv_cache_bytes, context, block_tokens = asked.split(",")
        print(json.dumps(measure(model, int(kv_cache_bytes), int(context), int(block_tokens))), flush=True)
