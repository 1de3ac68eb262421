from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.capacity.models import (
    DEEPSEEK_V2,
    DEEPSEEK_V3,
    GEMMA_3,
    GEMMA_LIKE,
    MISTRAL,
    MIXTRAL,
    QWEN_2,
    SCRIBE,
)
from workers.capacity.architecture import Model
from workers.capacity.configuration import from_config
from workers.capacity.kv_cache import KvCache, fill
from workers.capacity.weights import weights_bytes

SCRIBE_MODEL = from_config(SCRIBE, "scribe", "c")
MODELS = [SCRIBE_MODEL, from_config(GEMMA_LIKE, "gemma", "c"), from_config(DEEPSEEK_V3, "v3", "c")]


def cache(model: Model, available: int, block_tokens: int = 16, bits: int = 16, tensor_parallel: int = 1) -> KvCache:
    return fill(
        model,
        available,
        cache_bits=bits,
        block_tokens=block_tokens,
        batched_tokens=2048,
        tensor_parallel=tensor_parallel,
    )


@pytest.mark.parametrize(
    ("available", "context", "block_tokens", "blocks", "tokens"),
    [
        (134_217_728, 2048, 128, 409, 52_352),
        (134_217_728, 2048, 32, 1638, 52_416),
        (100_000_000, 1000, 128, 305, 38_125),  # 8 blocks for 1,000 tokens
        (134_217_728, 1500, 32, 1638, 52_276),
        (2**30, 1024, 128, 3276, 419_328),
    ],
)
def test_tokens_and_blocks_are_those_that_vllm_counts(
    available: int, context: int, block_tokens: int, blocks: int, tokens: int
) -> None:
    """Figures of vLLM 0.32 for the demo model."""
    found = cache(SCRIBE_MODEL, available, block_tokens)
    assert (found.blocks, found.tokens(context)) == (blocks, tokens)


@pytest.mark.parametrize(
    ("config", "bits", "block_tokens", "blocks", "tokens", "weights"),
    [
        (MISTRAL, 16, 128, 170, 33_158, 12_065_376),  # a window in every layer
        (MIXTRAL, 16, 128, 170, 21_760, 33_311_328),
        (GEMMA_3, 16, 128, 1024, 30_615, 11_548_770),  # a window in five of six
        (DEEPSEEK_V2, 16, 16, 606, 9_696, 25_657_952),  # latent attention
        (QWEN_2, 16, 128, 170, 21_760, 11_022_944),
        (QWEN_2, 8, 128, 341, 43_648, 11_022_944),
    ],
)
def test_other_kinds_of_model_as_vllm_counts_them(
    config: dict[str, Any], bits: int, block_tokens: int, blocks: int, tokens: int, weights: int
) -> None:
    """Figures of vLLM 0.32 on a CPU, at 64 MiB of cache and a context of 4,096."""
    model = from_config(config, "small", "c")
    found = cache(model, 64 * 2**20, block_tokens, bits)
    assert (found.blocks, found.tokens(4096)) == (blocks, tokens)
    assert weights_bytes(model, "none") == pytest.approx(weights, rel=0.002)


def test_half_the_bits_or_half_the_heads_hold_twice_as_much() -> None:
    whole = cache(SCRIBE_MODEL, 10**8)
    assert cache(SCRIBE_MODEL, 10**8, bits=8).blocks in (2 * whole.blocks, 2 * whole.blocks + 1)
    assert cache(SCRIBE_MODEL, 10**8, tensor_parallel=2).blocks in (2 * whole.blocks, 2 * whole.blocks + 1)
    assert cache(SCRIBE_MODEL, 10**8, tensor_parallel=4).blocks == cache(SCRIBE_MODEL, 10**8, tensor_parallel=2).blocks


def test_a_request_in_a_window_takes_no_more_than_the_window() -> None:
    gemma = MODELS[1]
    found = cache(gemma, 10**8)
    assert found.block_bytes == 2 * 2 * 2 * 64 * 2 * 16  # two layers make a group
    short, long = found.blocks_of(16 * 1024), found.blocks_of(32 * 1024)
    windows = 5 * ((1023 + 2048 + 15) // 16 + 1)
    assert short == 1024 + windows
    assert long == 2048 + windows


def test_a_cache_that_is_full_of_nothing() -> None:
    for available in (-5, 0, 100):
        empty = cache(SCRIBE_MODEL, available)
        assert (empty.blocks, empty.tokens(100), empty.concurrency(100), empty.max_context(100)) == (0, 0, 0, 0)


def test_one_block_is_the_engines_own() -> None:
    block = cache(SCRIBE_MODEL, 10**8).block_bytes
    assert cache(SCRIBE_MODEL, 4 * block).concurrency(64) == 0
    assert cache(SCRIBE_MODEL, 5 * block).concurrency(64) == 1


@given(
    st.sampled_from(MODELS),
    st.integers(0, 10**11),
    st.integers(1, 32768),
    st.sampled_from([8, 16]),
    st.sampled_from([16, 32, 128]),
)
def test_the_longest_context_fits_and_the_next_does_not(
    model: Model, available: int, limit: int, bits: int, block_tokens: int
) -> None:
    found = cache(model, available, block_tokens, bits)
    longest = found.max_context(limit)
    assert 0 <= longest <= limit
    assert longest == 0 or found.concurrency(longest) >= 1
    assert longest == limit or found.concurrency(longest + 1) == 0


@given(st.sampled_from(MODELS), st.integers(10**6, 10**11), st.integers(1, 32767))
def test_longer_requests_are_never_more(model: Model, available: int, context: int) -> None:
    found = cache(model, available)
    assert found.concurrency(context + 1) <= found.concurrency(context)
    assert found.blocks * found.block_bytes <= available
