from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.quantization.allocation import COST, Measured, allocate, average, fused

LAYERS = [
    Measured("robust", 100, {4: 0.001, 8: 0.0}),
    Measured("sensitive", 100, {4: 0.5, 8: 0.001}),
    Measured("hopeless", 100, {4: 0.4, 8: 0.35}),
    Measured("untouched", 100, {4: 0.0, 8: 0.0}),
]
klds = st.just(0.0) | st.floats(1e-9, 10)
measured = st.lists(
    st.builds(lambda weights, four, eight: (weights, four, eight), st.integers(1, 10**9), klds, klds), min_size=1
).map(lambda all: [Measured(f"layer {i}", n, {4: four, 8: eight}) for i, (n, four, eight) in enumerate(all)])


def test_without_room_all_have_four_bits() -> None:
    assert set(allocate(LAYERS, COST[4]).values()) == {4}


def test_the_worst_is_kept_higher_and_no_higher_than_helps() -> None:
    assert allocate(LAYERS, 5.2) == {"robust": 4, "sensitive": 8, "hopeless": 4, "untouched": 4}


def test_a_layer_that_eight_bits_do_not_help_keeps_sixteen() -> None:
    chosen = allocate(LAYERS, 9)

    assert chosen["sensitive"] == 8
    assert chosen["hopeless"] == 16


def test_what_does_not_suffer_keeps_four_bits_however_much_room_there_is() -> None:
    assert allocate(LAYERS, 16)["untouched"] == 4


@given(measured, st.floats(COST[4], COST[16]))
def test_the_budget_is_never_exceeded(layers: list[Measured], budget: float) -> None:
    chosen = allocate(layers, budget)

    assert chosen.keys() == {layer.name for layer in layers}
    assert average(layers, chosen) <= budget * (1 + 1e-9)


@given(measured)
def test_with_room_for_all_nothing_that_is_lost_at_eight_bits_is_kept_there(layers: list[Measured]) -> None:
    chosen = allocate(layers, COST[16])

    for layer in layers:
        if min(layer.kld.values()) > 0:
            assert chosen[layer.name] == 16


@given(measured, st.floats(COST[4], COST[16]))
def test_the_order_of_the_layers_does_not_matter(layers: list[Measured], budget: float) -> None:
    assert allocate(layers, budget) == allocate(list(reversed(layers)), budget)


def test_what_the_engine_multiplies_as_one_shares_its_bits() -> None:
    names = [f"model.layers.0.self_attn.{name}_proj" for name in "qkvo"]
    names += [f"model.layers.0.mlp.{name}_proj" for name in ("gate", "up", "down")]
    names += [f"model.layers.1.mlp.experts.{number}.gate_proj" for number in range(3)]

    assert fused(names) == {
        "model.layers.0.self_attn.qkv_proj": tuple(names[:3]),
        "model.layers.0.self_attn.o_proj": (names[3],),
        "model.layers.0.mlp.gate_up_proj": tuple(names[4:6]),
        "model.layers.0.mlp.down_proj": (names[6],),
        "model.layers.1.mlp.experts": tuple(names[7:]),
    }


def test_the_average_counts_weights_and_scales() -> None:
    layers = [LAYERS[0], Measured("large", 300, {4: 0, 8: 0})]

    assert average(layers, {"robust": 16, "large": 4}) == (16 + 3 * 4.125) / 4
