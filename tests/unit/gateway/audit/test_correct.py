"""What is left over goes to those whose tokens are estimates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.correct import BESIDES, corrections
from gateway.ledger.record import Attempt
from gateway.table import Price
from tests.unit.gateway.audit.rows import LINE, broken_off

NO_PRICES: dict[str, Price] = {}


def test_a_single_estimate_takes_all_of_it() -> None:
    (row,) = corrections(-7, 30, [broken_off(1, 10.5, 2.0, 100, 5)], NO_PRICES)
    assert row == broken_off(1, 10.5, 0.0, -7, 30, correction=1, gpu_ns=0, cost_nanousd=0)


def test_where_nothing_is_left_nothing_is_corrected() -> None:
    assert corrections(0, 0, [broken_off(1, 10.0, 2.0, 100, 5)], NO_PRICES) == []


def test_the_less_certain_takes_more() -> None:
    """A stream showed its tokens as they came; an answer that comes whole showed none, the longer the less."""
    stream = broken_off(1, 10.0, 1.0, 100, 50, ttft_seconds=0.1)
    whole, long = broken_off(2, 10.0, 0.1, 100, 50), broken_off(3, 10.0, 3.0, 100, 50)
    outputs = {row.request_id[-1]: row.output_tokens for row in corrections(0, 60, [stream, whole, long], NO_PRICES)}
    assert outputs.get("1", 0) < outputs["2"] < outputs["3"]
    prompts = {row.request_id[-1]: row.prompt_tokens for row in corrections(-90, 0, [stream, whole], NO_PRICES)}
    assert prompts.get("1", 0) > prompts["2"]


def test_a_prompt_is_counted_for_each_choice() -> None:
    (row,) = corrections(-21, 30, [broken_off(1, 10.5, 2.0, 100, 5, choices=3)], NO_PRICES)
    assert (row.correction, row.prompt_tokens, row.output_tokens, row.choices) == (1, -7, 30, 3)


@pytest.mark.parametrize(("left", "rows"), [(-20, [(-7, 3), (1, 1)]), (20, [(6, 3), (1, 2)]), (2, [(1, 2)])])
def test_what_is_no_multiple_of_the_choices_is_made_up_by_some_of_them(left: int, rows: list[tuple[int, int]]) -> None:
    made = corrections(left, 0, [broken_off(1, 10.5, 2.0, 100, 5, choices=3)], NO_PRICES)
    assert [(row.prompt_tokens, row.choices) for row in made] == rows
    assert [row.correction for row in made] == list(range(1, len(rows) + 1))
    assert sum(row.prompt_tokens * row.choices for row in made) == left


def test_the_engine_may_do_more_for_more_choices() -> None:
    one, three = (broken_off(1, 10.0, 2.0, 100, 5, choices=choices) for choices in (1, 3))
    assert corrections(1_500, 5_000, [one], NO_PRICES) == []
    (row,) = corrections(1_500, 5_000, [three], NO_PRICES)
    assert (row.prompt_tokens, row.output_tokens) == (500, 5_000)


def test_corrections_go_on_from_those_there_are() -> None:
    base = broken_off(1, 10.0, 2.0, 100, 5)
    again = base._replace(correction=1, prompt_tokens=-90, output_tokens=0, duration_seconds=0.0)
    (row,) = corrections(-50, 0, [base, again], NO_PRICES)
    assert (row.correction, row.prompt_tokens) == (2, -10)  # and the other 40 are nobody's


def test_what_can_be_theirs_is_theirs_to_the_last_token() -> None:
    most = 300 + BESIDES, 2_000 + BESIDES - 5
    (row,) = corrections(*most, [broken_off(1, 10.0, 2.0, 100, 5)], NO_PRICES)
    assert (row.prompt_tokens, row.output_tokens) == most


@pytest.mark.parametrize(("prompt", "output"), [(301 + BESIDES, 3), (7, 1_996 + BESIDES), (10**9, 10**9)])
def test_beyond_that_somebody_else_was_there_and_nobody_pays_for_them(prompt: int, output: int) -> None:
    assert corrections(prompt, output, [broken_off(1, 10.0, 2.0, 100, 5)], NO_PRICES) == []


def test_a_failure_that_told_nothing_can_have_had_a_prompt() -> None:
    (row,) = corrections(500, 20, [broken_off(1, 10.0, 2.0, 0, 0, outcome="failed")], NO_PRICES)
    assert (row.prompt_tokens, row.output_tokens, row.cost_nanousd) == (500, 20, 0)


def test_tokens_that_have_a_price_cost_the_difference() -> None:
    price = Price(input=10_000_000, cached_input=1_000_000, output=100_000_000)
    priced = broken_off(1, 10.0, 2.0, 100, 5, cached_tokens=40, line=LINE._replace(cost_basis="token_price"))
    (row,) = corrections(-80, 3, [priced], {"w": price})
    assert row.cached_tokens == -20  # no more of a prompt is cached than there is of it
    assert row.cost_nanousd == (20 * 1 + 8 * 100) - (60 * 10 + 40 * 1 + 5 * 100)
    (unpriced,) = corrections(-80, 3, [priced], NO_PRICES)
    assert unpriced.cost_nanousd == 0


@given(
    st.integers(-(10**5), 10**5),
    st.integers(-(10**5), 10**5),
    st.lists(
        st.tuples(st.integers(0, 999), st.integers(0, 999), st.floats(0, 60), st.booleans(), st.integers(1, 5)),
        max_size=9,
    ),
)
def test_what_is_corrected_is_never_less_than_nothing_and_done_twice_is_done_once(
    prompt: int, output: int, made: list[tuple[int, int, float, bool, int]]
) -> None:
    rows = [
        broken_off(number, 10.0, seconds, had, out, ttft_seconds=0.1 if streamed else None, choices=choices)
        for number, (had, out, seconds, streamed, choices) in enumerate(made)
    ]
    more = corrections(prompt, output, rows, NO_PRICES)
    sums: dict[str, list[int]] = {}
    for row in [*rows, *more]:
        have = sums.setdefault(row.request_id, [0, 0])
        have[0] += row.prompt_tokens
        have[1] += row.output_tokens
    assert all(least >= 0 for have in sums.values() for least in have)
    left = (
        prompt - sum(row.prompt_tokens * row.choices for row in more),
        output - sum(row.output_tokens for row in more),
    )
    assert abs(left[0]) <= abs(prompt)
    assert abs(left[1]) <= abs(output)
    again = corrections(*left, _by_request([*rows, *more]), NO_PRICES)
    assert again == []  # what was nobody's stays nobody's
    emptied = corrections(
        -sum(row.prompt_tokens * row.choices for row in (*rows, *more)), 0, _by_request([*rows, *more]), NO_PRICES
    )
    for row in emptied:
        sums[row.request_id][0] += row.prompt_tokens
    assert all(prompt >= 0 for prompt, _ in sums.values())


def _by_request(rows: list[Attempt]) -> list[Attempt]:
    return sorted(rows, key=lambda row: (row.request_id, row.number, row.correction))
