"""How long a step takes: whichever is slower of arithmetic and memory (Williams et al., CACM 52(4), 2009), with the
shares of the data sheet's figures that inference engines reach.

An estimate, good for comparing and for a first budget: `tollgate-worker evaluate` measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from workers.capacity.architecture import Attention, Model
from workers.capacity.gpus import Gpu
from workers.capacity.quantizations import MIXED_BITS
from workers.capacity.weights import Reads, active_parameters, reads

# Pope et al. (arXiv 2211.05102) reach 76 % of peak arithmetic on large batches of prompts; here they come one by one.
ARITHMETIC_REACHED = 0.5
BANDWIDTH_REACHED = 0.7
STEP_SECONDS = 0.001  # to schedule a step, launch its kernels and sample
CPU_STEP_SECONDS = (
    0.0025  # the same where they share cores: vLLM 0.32 makes 350 tokens/s of a model of 4.5 M parameters
)
ALL_REDUCE_SECONDS = 15e-6  # latency of one; a layer has two (Megatron-LM, arXiv 1909.08053)


@dataclass(frozen=True)
class Engine:
    """A model in one quantization on `tensor_parallel` GPUs, of which all figures are known (`gpu.is_known`)."""

    model: Model
    quantization: str
    gpu: Gpu
    tensor_parallel: int
    kv_cache_bits: int
    mixed_bits: float = MIXED_BITS

    def prefill_seconds(self, tokens: int) -> float:
        """To read a prompt of `tokens`, alone."""
        linear = 2.0 * self._active_parameters * tokens
        attention = sum(
            4.0 * group.layers * self.model.heads * group.head_dim * tokens * _attended(group, tokens)
            for group in self.model.attention
        )
        quick = self._operations(self.quantization)
        arithmetic = linear / quick + attention / self._operations("none")
        return max(arithmetic, self._weights_seconds(tokens)) + self._all_reduce_seconds(tokens) + self._step_seconds

    def decode_seconds(self, batch: float, context: float) -> float:
        """For one token of each of `batch` requests, which have `context` tokens in the cache."""
        cached = sum(
            group.layers * self._cached_bytes(group) * min(context, group.window or context)
            for group in self.model.attention
        )
        memory = self._weights_seconds(batch) + batch * cached / self._bandwidth
        arithmetic = 2.0 * self._active_parameters * batch / self._operations(self.quantization)
        return max(arithmetic, memory) + self._all_reduce_seconds(batch) + self._step_seconds

    @cached_property
    def _reads(self) -> Reads:
        return reads(self.model, self.quantization, self.tensor_parallel, self.mixed_bits)

    @cached_property
    def _active_parameters(self) -> int:
        return active_parameters(self.model)

    @property
    def _step_seconds(self) -> float:
        return CPU_STEP_SECONDS if self.gpu.is_cpu else STEP_SECONDS

    @property
    def _bandwidth(self) -> float:
        assert self.gpu.bytes_per_second is not None
        return self.gpu.bytes_per_second * BANDWIDTH_REACHED

    def _operations(self, quantization: str) -> float:
        return self.gpu.operations(quantization) * ARITHMETIC_REACHED * self.tensor_parallel

    def _weights_seconds(self, tokens: float) -> float:
        return self._reads.bytes_of(tokens) / self._bandwidth

    def _cached_bytes(self, group: Attention) -> float:
        """Of one token in one layer, on one GPU."""
        if group.latent:
            return group.latent * self.kv_cache_bits / 8
        return 2 * -(-group.kv_heads // self.tensor_parallel) * group.head_dim * self.kv_cache_bits / 8

    def _all_reduce_seconds(self, tokens: float) -> float:
        if self.tensor_parallel == 1:
            return 0.0
        moved = 2 * (self.tensor_parallel - 1) / self.tensor_parallel * tokens * self.model.hidden_size * 2
        return 2 * self.model.layers * (ALL_REDUCE_SECONDS + moved / self.gpu.link_bytes_per_second)


def _attended(group: Attention, tokens: int) -> float:
    """Tokens that one looks back on, on average over a prompt: half of it, or its window."""
    if group.window is None or tokens <= group.window:
        return tokens / 2
    return group.window - group.window**2 / (2 * tokens)
