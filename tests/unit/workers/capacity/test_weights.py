from __future__ import annotations

import dataclasses

import pytest

from tests.unit.workers.capacity.models import LLAMA_3_8B, SCRIBE
from workers.capacity.architecture import Role
from workers.capacity.configuration import from_config
from workers.capacity.parameter_count import from_count
from workers.capacity.quantizations import FP8, NF4, NONE, W4A16, W8A8
from workers.capacity.weights import active_parameters, reads, weights_bytes, why_not_split

LLAMA = from_config(LLAMA_3_8B, "llama", "config.json")


@pytest.mark.parametrize(
    ("quantization", "bits"),
    [(NONE, 16), (FP8, 8 + 32 / 4096), (W8A8, 8 + 32 / 4096), (W4A16, 4 + 16 / 128), (NF4, 4 + 32 / 64)],
)
def test_bits_of_a_quantized_weight_with_its_scales(quantization: object, bits: float) -> None:
    assert isinstance(quantization, type(NONE))
    assert quantization.bytes_of(4096 * 4096, 4096) == pytest.approx(4096 * 4096 * bits / 8)


def test_rows_shorter_than_a_group_still_have_a_scale() -> None:
    assert W4A16.bytes_of(10 * 96, 96) == 10 * 96 // 2 + 10 * 2


def test_embeddings_and_head_keep_their_bits() -> None:
    kept = 2 * LLAMA.parameters_of(Role.EMBEDDING, Role.HEAD, Role.OTHER)
    for quantization in ("fp8", "w8a8", "mixed", "w4a16", "nf4"):
        assert weights_bytes(LLAMA, quantization) > kept


def test_mixed_has_as_many_bits_as_it_is_given() -> None:
    found = [weights_bytes(LLAMA, "mixed", mixed_bits=bits) for bits in (4.125, 6.0, 16.0)]
    assert found[0] == pytest.approx(weights_bytes(LLAMA, "w4a16"))
    assert found[0] < found[1] < weights_bytes(LLAMA, "fp8") < found[2]
    assert found[2] == weights_bytes(LLAMA, "none")


def test_gpus_share_all_but_norms_and_what_heads_are_too_few_for() -> None:
    model = from_config(SCRIBE | {"max_position_embeddings": 1}, "scribe", "c")
    norms = 2 * model.parameters_of(Role.OTHER) + model.rotary_bytes
    whole, half, quarter = (weights_bytes(model, "none", split) for split in (1, 2, 4))
    assert half == (whole - norms) // 2 + norms
    kv = 2 * 5 * 2 * 128 * 256  # two KV heads, which four GPUs hold twice
    assert quarter == (whole - norms - kv) // 4 + kv // 2 + norms


def test_a_step_reads_the_experts_that_its_tokens_reach() -> None:
    model = from_count("8x7B")
    one, many = (reads(model, "none").bytes_of(tokens) for tokens in (1, 10_000))
    assert one / 2 == pytest.approx(active_parameters(model), rel=0.001)
    assert many / 2 == pytest.approx(model.parameters - model.parameters_of(Role.EMBEDDING), rel=0.001)


def test_a_tied_head_is_read_though_it_is_held_once() -> None:
    tied = from_config(SCRIBE, "scribe", "c")
    own = from_config(SCRIBE | {"tie_word_embeddings": False}, "scribe", "c")
    assert reads(tied, "none") == reads(own, "none")
    assert active_parameters(tied) == active_parameters(own)


def test_nf4_is_unpacked_for_more_than_one_token() -> None:
    nf4 = reads(LLAMA, "nf4")
    assert nf4.bytes_of(2) > reads(LLAMA, "none").bytes_of(2) > nf4.bytes_of(1)


def test_heads_and_groups_must_split() -> None:
    assert why_not_split(LLAMA, "w4a16", 8) is None
    assert "32 attention heads" in (why_not_split(LLAMA, "none", 3) or "")
    llama_2 = from_count("7B")  # rows of 11008 are 86 groups
    assert why_not_split(llama_2, "fp8", 4) is None
    assert why_not_split(llama_2, "w4a16", 2) is None
    assert "whole groups of 128" in (why_not_split(llama_2, "w4a16", 4) or "")
    stored = dataclasses.replace(llama_2, stored="w4a16", stored_group=64)
    assert why_not_split(stored, "w4a16", 4) is None
