from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import WrongUsage
from workers.quantization.ladder import DEFAULT, NO_STEPS, Ship, Steps, Try, next_move, parse_ladder
from workers.quantization.recipes import RECIPES

STEPS = parse_ladder("fp8/w8a8, w4a16-gptq/w4a16-awq")


def test_steps_have_commas_between_them_and_alternatives_slashes() -> None:
    assert STEPS == (("fp8", "w8a8"), ("w4a16-gptq", "w4a16-awq"))
    assert parse_ladder(DEFAULT) == STEPS


@pytest.mark.parametrize("text", ["", "fp8,", "int3", "progressive", "merged", "fp8/w4a16-gptq/fp8", "fp8,fp8"])
def test_a_ladder_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="--ladder"):
        parse_ladder(text)


@pytest.mark.parametrize(
    ("passed", "move"),
    [
        ({}, Try("fp8")),
        ({"fp8": True}, Try("w4a16-gptq")),
        ({"fp8": False}, Try("w8a8")),
        ({"fp8": False, "w8a8": False}, Ship(None)),
        ({"fp8": True, "w4a16-gptq": True}, Ship("w4a16-gptq")),
        ({"fp8": True, "w4a16-gptq": False}, Try("w4a16-awq")),
        ({"fp8": True, "w4a16-gptq": False, "w4a16-awq": False}, Ship("fp8")),
        ({"fp8": False, "w8a8": True, "w4a16-gptq": False, "w4a16-awq": True}, Ship("w4a16-awq")),
    ],
)
def test_down_until_a_step_fails(passed: dict[str, bool], move: Try | Ship) -> None:
    assert next_move(STEPS, passed) == move


names = st.permutations([name for name, recipe in RECIPES.items() if recipe.method not in NO_STEPS])
ladders = st.builds(
    lambda order, ends: tuple(
        tuple(order[start:end]) for start, end in zip([0, *ends], [*ends, len(order)], strict=True) if end > start
    ),
    names,
    st.lists(st.integers(1, 5), max_size=3).map(sorted),
)


@given(ladders, st.data())
def test_it_ends_and_ships_only_what_passed_after_steps_that_passed(steps: Steps, data: st.DataObject) -> None:
    verdicts = {name: data.draw(st.booleans(), label=name) for step in steps for name in step}
    passed: dict[str, bool] = {}
    while isinstance(move := next_move(steps, passed), Try):
        assert move.recipe not in passed
        passed[move.recipe] = verdicts[move.recipe]

    whole = [any(verdicts[name] for name in step) for step in steps]
    depth = (*whole, False).index(False)
    if depth == 0:
        assert move.recipe is None
    else:
        assert move.recipe == next(name for name in steps[depth - 1] if verdicts[name])
