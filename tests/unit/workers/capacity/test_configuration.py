from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.capacity.models import DEEPSEEK_V3, GEMMA_LIKE, LLAMA_3_8B, SCRIBE
from workers.capacity import kv_cache
from workers.capacity.architecture import Role
from workers.capacity.configuration import from_config
from workers.capacity.weights import weights_bytes
from workers.errors import WrongUsage


def test_a_grouped_query_model() -> None:
    model = from_config(LLAMA_3_8B, "llama", "config.json")
    assert model.parameters == 8_030_261_248  # what its model card says
    assert kv_cache.bytes_per_token(model) == 2 * 32 * 8 * 128 * 2
    assert kv_cache.bytes_per_token(model, cache_bits=8) == 32 * 8 * 128 * 2
    assert model.max_context == 8192


def test_a_tied_head_is_held_once_and_used_by_every_token() -> None:
    model = from_config(SCRIBE, "scribe", "config.json")
    assert model.parameters == 4_459_264
    assert not model.parameters_of(Role.HEAD)


def test_multi_head_latent_attention_caches_one_vector() -> None:
    model = from_config(DEEPSEEK_V3, "v3", "config.json")
    assert model.parameters == pytest.approx(671.0e9, rel=0.001)
    assert model.active_parameters == pytest.approx(37e9, rel=0.02)
    assert kv_cache.bytes_per_token(model) == 61 * (512 + 64) * 2
    assert kv_cache.bytes_per_token(model, tensor_parallel=8) == 61 * (512 + 64) * 2  # each GPU has it


def test_sliding_windows_are_a_group_of_their_own() -> None:
    model = from_config(GEMMA_LIKE, "gemma", "config.json")
    assert [(group.layers, group.window) for group in model.attention] == [(2, None), (10, 1024)]
    pattern = {key: value for key, value in GEMMA_LIKE.items() if key != "layer_types"}
    assert from_config(pattern | {"sliding_window_pattern": 6}, "gemma", "c").attention == model.attention


@pytest.mark.parametrize("off", [{"sliding_window": None}, {"use_sliding_window": False}])
def test_a_window_that_is_switched_off_is_none(off: dict[str, Any]) -> None:
    (group,) = from_config({**SCRIBE, "sliding_window": 1024, **off}, "qwen", "config.json").attention
    assert group.window is None


def test_the_language_model_of_a_multimodal_one_is_planned() -> None:
    wrapped = {"model_type": "llava", "text_config": LLAMA_3_8B}
    assert from_config(wrapped, "llava", "config.json").parameters == 8_030_261_248


def test_names_of_older_families() -> None:
    gpt2 = {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257}
    model = from_config(gpt2, "gpt2", "config.json")
    assert model.parameters == pytest.approx(124e6, rel=0.01)
    assert weights_bytes(model, "none") == 2 * model.parameters  # no table of angles


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"hidden_size": "4096"}, "whole number"),
        ({"hidden_size": True}, "whole number"),
        ({"hidden_size": 10**12}, "whole number"),
        ({"num_attention_heads": 0}, "at least 1"),
        ({"num_hidden_layers": 10**6}, "no model"),
        ({"num_attention_heads": 5, "head_dim": None}, "no multiple"),
        ({"num_key_value_heads": 64}, "more than"),
        ({"num_local_experts": 8, "num_experts_per_tok": 9}, "experts per token"),
        ({"layer_types": ["full_attention"]}, "there are 5"),
        ({"layer_types": ["linear_attention"] * 5}, "start the engine"),
        ({"layer_types": ["sliding_attention"] * 5}, "`sliding_window` is missing"),
        ({"ssm_cfg": {}}, "state-space"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"quantization_config": []}, "must be a mapping"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "config_groups"),
    ],
)
def test_what_cannot_be_worked_out_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongUsage, match=said):
        from_config({**SCRIBE, **change}, "scribe", "config.json")


_VALUES = st.sampled_from([None, True, False, 1.5, "", "4096", [], [1], {}]) | st.integers(-5, 10**13)


@given(st.dictionaries(st.sampled_from([*DEEPSEEK_V3, *GEMMA_LIKE, "sliding_window_pattern"]), _VALUES))
def test_any_configuration_is_a_model_or_refused(change: dict[str, Any]) -> None:
    try:
        model = from_config({**SCRIBE, **change}, "any", "config.json")
    except WrongUsage:
        return
    assert weights_bytes(model, "w4a16") > 0
    assert kv_cache.bytes_per_token(model) > 0
