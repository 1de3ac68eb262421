from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.capacity.models import DEEPSEEK_V3, GEMMA_LIKE, SCRIBE
from workers.capacity.architecture import Model
from workers.capacity.configuration import from_config
from workers.capacity.kv_cache import KvCache, fill

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
