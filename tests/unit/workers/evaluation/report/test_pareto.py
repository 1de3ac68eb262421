from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.evaluation.report.pareto import front

COSTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def beats(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


@given(COSTS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_front_is_whatever_nothing_beats(costs: list[tuple[int, int]]) -> None:
    expected = {place for place, one in enumerate(costs) if not any(beats(other, one) for other in costs)}

    assert set(front(costs)) == expected


@given(COSTS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_goes_by_the_first_cost(costs: list[tuple[int, int]]) -> None:
    first = [costs[place][0] for place in front(costs)]

    assert first == sorted(first)
