from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.evaluation.report import scales

VALUES = st.lists(st.floats(0, 1e12), max_size=8)
MAKERS = (scales.from_zero, scales.around, scales.decades)


@pytest.mark.parametrize("maker", MAKERS)
@given(values=VALUES, count=st.integers(2, 6))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_ticks_are_few_rising_and_on_the_axis(maker: type[scales.Linear], values: list[float], count: int) -> None:
    scale = maker(values, 10.0, 490.0)

    ticks = scale.ticks(count)

    assert 1 <= len(ticks) <= count * 2 + 2
    assert all(one < other for one, other in itertools.pairwise(ticks))
    assert all(10.0 <= scale(tick) <= 490.0 for tick in ticks)


@pytest.mark.parametrize("maker", MAKERS)
@given(values=VALUES)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_larger_values_are_never_further_left(maker: type[scales.Linear], values: list[float]) -> None:
    scale = maker(values, 10.0, 490.0)

    places = [scale(one) for one in sorted(values)]

    assert places == sorted(places)
    assert all(10.0 <= place <= 490.0 for place in places)


@given(st.lists(st.floats(0, 1), max_size=8))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_shares_go_by_what_they_lack(shares: list[float]) -> None:
    scale = scales.closeness(shares, 10.0, 490.0)

    places = [scale(one) for one in sorted(shares)]

    assert places == sorted(places)
    assert all(10.0 <= scale(tick) <= 490.0 for tick in scale.ticks())


def test_close_shares_are_as_far_apart_as_what_they_lack() -> None:
    scale = scales.Closeness(0.9, 0.999, 0.0, 100.0)

    assert scale(0.99) == pytest.approx(50)
    assert scale(1.0) == 100


def test_nothing_has_a_place_of_its_own_on_a_logarithmic_axis() -> None:
    scale = scales.Log(0.001, 1.0, 0.0, 300.0)

    assert [scale(value) for value in (0, 0.001, 0.01, 1, 50)] == pytest.approx([0, 0, 100, 300, 300])
    assert scale.ticks() == pytest.approx([0.001, 0.01, 0.1, 1])


def test_few_decades_have_ticks_within() -> None:
    assert scales.log_ticks(0.001, 0.02) == pytest.approx([0.001, 0.002, 0.005, 0.01, 0.02])


@pytest.mark.parametrize(("value", "above"), [(9.06, 10), (4404, 5000), (1, 1), (1.1, 1.2), (0, 1), (float("nan"), 1)])
def test_an_axis_ends_at_a_round_value(value: float, above: float) -> None:
    assert scales.ceiling(value) == pytest.approx(above)
