"""How many tokens a KV cache holds, in whole blocks, as vLLM 0.32 counts them (vllm/v1/core/kv_cache_utils.py)."""

from __future__ import annotations

from dataclasses import dataclass

from workers.capacity.architecture import Attention, Model

BLOCK_TOKENS = 16
CPU_BLOCK_TOKENS = 128  # vllm/platforms/cpu.py
SHARE_OF_MOST = 1.5  # groups of layers closer than this in number are padded to the larger (kv_cache_utils.py)


@dataclass(frozen=True, slots=True)
class KvCache:
    """The cache of one GPU, and what a request takes of it.

    Layers that cache alike form groups of one size; a block belongs to one group, and a request takes blocks of each.
    """

    blocks: int
    block_tokens: int
    block_bytes: int
    groups: tuple[tuple[int, int | None], ...]  # how many groups, and the tokens they look back
    batched_tokens: int  # in flight in one step, which a sliding window keeps beside its own

    def blocks_of(self, context: int) -> int:
        """That one request of `context` tokens needs."""
        return sum(count * self._of_group(context, window) for count, window in self.groups)

    def tokens(self, context: int) -> int:
        """`KV cache size` of vLLM's log at a longest request of `context` tokens."""
        return int(self.blocks / self.blocks_of(context) * context)

    def concurrency(self, context: int) -> int:
        """Requests of `context` tokens that are held at once; the engine keeps one block for itself."""
        return max(0, (self.blocks - 1) // self.blocks_of(context))

    def max_context(self, limit: int) -> int:
        """The longest request that fits, at most `limit` tokens; 0 when not one token does."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self.concurrency(middle) >= 1:
                low = middle
            else:
                high = middle - 1
        return low

    def _of_group(self, context: int, window: int | None) -> int:
        if window is None:
            return -(-context // self.block_tokens)
        return -(-min(window - 1 + self.batched_tokens, context) // self.block_tokens) + 1


def bytes_per_token(model: Model, cache_bits: int = 16, tensor_parallel: int = 1) -> float:
    """On one GPU, while every layer keeps the token: 2 · layers · kv_heads · head_dim · bytes."""
    return sum(group.layers * _layer_bytes(group, cache_bits, tensor_parallel) for group in model.attention)


def fill(
    model: Model, available_bytes: int, *, cache_bits: int, block_tokens: int, batched_tokens: int, tensor_parallel: int
) -> KvCache:
    """The cache that `available_bytes` of one GPU make."""
    size = _group_size(model)
    page = max(_layer_bytes(group, cache_bits, tensor_parallel) for group in model.attention) * block_tokens
    block_bytes = round(page * size)
    return KvCache(
        blocks=max(0, available_bytes) // block_bytes,
        block_tokens=block_tokens,
        block_bytes=block_bytes,
        groups=tuple((-(-group.layers // size), group.window) for group in model.attention),
        batched_tokens=batched_tokens,
    )


def _group_size(model: Model) -> int:
    fewest = min(group.layers for group in model.attention)
    most = max(group.layers for group in model.attention)
    return most if most < fewest * SHARE_OF_MOST else fewest


def _layer_bytes(group: Attention, cache_bits: int, tensor_parallel: int) -> float:
    """Of one token in one layer; heads that are fewer than the GPUs are held more than once, MLA's vector by each."""
    if group.latent:
        return group.latent * cache_bits / 8
    return 2 * -(-group.kv_heads // tensor_parallel) * group.head_dim * cache_bits / 8
