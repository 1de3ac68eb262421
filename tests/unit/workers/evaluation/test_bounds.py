"""Bounds as a user writes them."""

from __future__ import annotations

import pytest

from workers.errors import WrongUsage
from workers.evaluation.bounds import ADAPTER, EIGHT_BITS, FOUR_BITS, changed, for_bits, pairs


def test_bits_choose_the_bounds() -> None:
    assert for_bits(8) == for_bits(16) == EIGHT_BITS
    assert for_bits(4) == for_bits(4.5) == FOUR_BITS
    assert for_bits(4, adapter=True) == ADAPTER
    assert (EIGHT_BITS.kld, EIGHT_BITS.same_top) == (0.01, 0.96)
    assert (FOUR_BITS.kld, FOUR_BITS.same_top) == (0.05, 0.91)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("kld", "0.02", 0.02),
        ("same-top", "97%", 0.97),
        ("same-top", 0.97, 0.97),
        ("perplexity", "105%", 1.05),
        ("task", "2", 2.0),
        ("speed", 1.2, 1.2),
        ("kld", "off", None),
        ("kld", False, None),
    ],
)
def test_a_bound_is_a_number_a_percentage_or_off(name: str, value: object, expected: float | None) -> None:
    assert getattr(changed(EIGHT_BITS, {name: value}), name.replace("-", "_")) == expected


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("kdl", "1", "kld, same-top"),
        ("kld", "much", "such as 0.05"),
        ("kld", "-1", "such as 0.05"),
        ("kld", "nan", "such as 0.05"),
        ("same-top", "96", "such as 0.91"),
        ("speed", "fast", "such as 1.2"),
    ],
)
def test_what_is_no_bound_is_refused(name: str, value: str, says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        changed(EIGHT_BITS, {name: value})


def test_options_are_pairs() -> None:
    assert pairs(["kld=0.1", "same-top = 96%"], "--gate") == {"kld": "0.1", "same-top": "96%"}
    for wrong in ("kld", "kld="):
        with pytest.raises(WrongUsage, match="--gate perplexity"):
            pairs([wrong], "--gate")
