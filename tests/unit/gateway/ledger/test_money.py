"""Amounts are written in full, and parts of a whole sum to it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.money import exact, rounded


@pytest.mark.parametrize(
    ("billionths", "written"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (-1, "-0.000000001"),
        (12_345_678_901, "12.345678901"),
        (10**27, f"{10**18}.000000000"),
    ],
)
def test_amounts_are_written_exactly(billionths, written):
    assert exact(billionths) == written
    assert Decimal(written) * 10**9 == billionths


parts = st.lists(st.integers(-(10**15), 10**15), max_size=30)


@given(parts, st.integers(1, 10**7))
def test_rounded_parts_sum_to_the_rounded_whole(parts, unit):
    whole = rounded(parts, unit)
    assert sum(whole) == (2 * sum(parts) + unit) // (2 * unit)
    assert all(abs(units * unit - part) < unit for units, part in zip(whole, parts, strict=True))


@given(parts, parts, st.integers(1, 10**7))
def test_the_sum_does_not_depend_on_how_a_whole_was_cut(one, another, unit):
    assert sum(rounded([*one, *another], unit)) == sum(rounded([sum(one), sum(another)], unit))
