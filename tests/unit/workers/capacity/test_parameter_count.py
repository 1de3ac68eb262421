from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.capacity import kv_cache
from workers.capacity.configuration import from_config
from workers.capacity.parameter_count import EXPERTS, SHAPES, from_count, is_count
from workers.capacity.weights import weights_bytes
from workers.errors import WrongUsage

GB = 10**9


@pytest.mark.parametrize(("size", "gigabytes"), [("7B", 14), ("13B", 26), ("70B", 140), ("175B", 350)])
def test_rule_of_thumb_two_bytes_for_a_parameter(size: str, gigabytes: int) -> None:
    assert weights_bytes(from_count(size), "none") / GB == pytest.approx(gigabytes, rel=1e-6)


@pytest.mark.parametrize("size", ["7B", "13B", "70B", "175B"])
@pytest.mark.parametrize(("quantization", "saved"), [("fp8", 0.50), ("w8a8", 0.50), ("w4a16", 0.75)])
def test_rule_of_thumb_half_and_three_quarters_are_saved(size: str, quantization: str, saved: float) -> None:
    model = from_count(size)
    share = 1 - weights_bytes(model, quantization) / weights_bytes(model, "none")
    assert saved - 0.04 < share < saved  # embeddings, head and scales are what is missing


def test_experts_share_all_but_their_mlps() -> None:
    model = from_count("8x7B")
    assert model.parameters == pytest.approx(46.7e9, rel=0.001)
    assert model.active_parameters == pytest.approx(12.8e9, rel=0.01)
    assert from_count("8x22B").parameters == pytest.approx(140.6e9, rel=0.001)


def test_the_shape_is_said_to_be_assumed_until_it_is_given() -> None:
    assert "Llama-2-7B" in (from_count("7B").assumption or "")
    given_shape = from_count(
        "7B,layers=32,hidden=4096,heads=32,kv_heads=8,intermediate=14336,vocab=32000,context=32768"
    )
    assert given_shape.assumption is None
    assert given_shape.max_context == 32768
    assert kv_cache.bytes_per_token(given_shape) == 2 * 32 * 8 * 128 * 2


@pytest.mark.parametrize("shapes", [SHAPES, EXPERTS])
def test_shapes_have_the_parameters_of_their_models(shapes: dict[float, tuple[str, dict[str, object]]]) -> None:
    for billions, (name, config) in shapes.items():
        if shapes is EXPERTS:
            config = {**config, "num_local_experts": 8, "num_experts_per_tok": 2}
            billions = {7.0: 46.70, 22.0: 140.6}[billions]
        assert from_config(config, name, name).parameters / 1e9 == pytest.approx(billions, rel=0.005), name


@pytest.mark.parametrize(
    "text",
    [
        "0B",
        "7b,layers",
        "7B,layers=0",
        "7B,layers=3.5",
        "7B,layers=32,layers=32",
        "7B,colour=red",
        "7B,",
        "1x7B",
        "0x7B",
        "8x13B",
        "10M",
        "7B,vocab=900000000",
        "7B,layers=1",
        "7B,kv_heads=64",
        "999999B",
        "999999T",
    ],
)
def test_what_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage):
        from_count(text)


@given(st.text(alphabet="0123456789.xBMT,=layershidnvocb_ ", max_size=40))
def test_any_text_is_a_model_or_refused(text: str) -> None:
    if not is_count(text):
        return
    try:
        assert from_count(text).parameters > 0
    except WrongUsage:
        pass


@given(st.floats(min_value=0.3, max_value=1000).map(lambda billions: round(billions, 2)))
def test_a_count_is_met_exactly(billions: float) -> None:
    assert from_count(f"{billions}B").parameters == pytest.approx(billions * 1e9, rel=1e-6)
