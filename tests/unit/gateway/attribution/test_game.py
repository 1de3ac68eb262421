"""What being busy is worth: a game whose values are known in its simple cases."""

from __future__ import annotations

from itertools import permutations
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.attribution import game
from gateway.attribution.game import busy, by_presence, shares, values
from gateway.attribution.model import PRIOR
from gateway.attribution.visit import visit_of
from gateway.attribution.work import work_of

PARTS = st.lists(st.tuples(st.floats(0, 0.15), st.floats(0, 5)), min_size=1, max_size=6)


def test_busy_is_known_for_two_queues():
    assert busy(0.3, 0.0) == pytest.approx(0.3)  # M/G/1
    assert busy(0.0, 2.0) == pytest.approx(1 - exp(-2))  # M/G/infinity


@given(PARTS)
def test_values_sum_to_the_whole_and_so_does_presence(parts):
    linear, steps = zip(*parts, strict=True)
    whole = busy(sum(linear), sum(steps))
    assert sum(values(linear, steps)) == pytest.approx(whole, abs=1e-9)
    assert sum(by_presence(linear, steps)) == pytest.approx(whole, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 5)), min_size=2, max_size=4))
def test_values_are_the_mean_over_all_orders(parts):
    linear, steps = zip(*parts, strict=True)
    orders = list(permutations(range(len(parts))))
    expected = [0.0] * len(parts)
    for order in orders:
        there: list[int] = []
        for one in order:
            before = busy(sum(linear[i] for i in there), sum(steps[i] for i in there))
            there.append(one)
            after = busy(sum(linear[i] for i in there), sum(steps[i] for i in there))
            expected[one] += (after - before) / len(orders)
    assert values(linear, steps) == pytest.approx(expected, abs=1e-9)


def test_many_are_drawn_and_near(monkeypatch):
    linear, steps = [0.01 * i for i in range(8)], [0.3 * (8 - i) for i in range(8)]
    exact = values(linear, steps)
    monkeypatch.setattr(game, "EXACTLY", 3)
    drawn = values(linear, steps)
    assert sum(drawn) == pytest.approx(sum(exact))
    assert drawn == pytest.approx(exact, rel=0.2, abs=2e-3)  # of one window: other windows draw others


def visits(count: int):
    return [visit_of(1, 1, "abcd"[i % 4], 0.7 * i, 0.2, 3.0, 100 + 300 * (i % 4), 0, 30, PRIOR) for i in range(count)]


@given(st.integers(1, 60), st.floats(0, 1))
def test_shares_sum_to_the_busy_time(count, crowded):
    work = work_of(visits(count), PRIOR, 0.0, 60.0)
    found = shares(work, 60.0, crowded)
    assert sum(found) == pytest.approx(work.busy)
    assert min(found) >= 0


def test_where_there_is_nothing_to_go_by_it_is_time():
    idle = [visit_of(1, 1, tenant, 0.0, None, seconds, 0, 0, 0, PRIOR) for tenant, seconds in (("a", 1.0), ("b", 3.0))]
    free = PRIOR._replace(a0=0.0)
    assert shares(work_of(idle, free, 0.0, 60.0), 60.0, 0.0) == pytest.approx([0.75, 2.25])
    assert shares(work_of([], PRIOR, 0.0, 60.0), 60.0, 0.0) == []


def test_prompts_cost_less_where_the_worker_is_busy_anyway():
    def part_of_prompts(answers: int) -> float:
        prompts = [visit_of(1, 1, "p", 5.0 * i, 0.3, 0.3, 8_000, 0, 1, PRIOR) for i in range(10)]
        long = [visit_of(1, 1, f"l{i}", 0.0, 0.01, 59.0, 10, 0, 3_000, PRIOR) for i in range(answers)]
        work = work_of([*prompts, *long], PRIOR, 0.0, 60.0)
        return sum(shares(work, 60.0, 0.0)[:10]) / sum(work.linear[:10])

    assert part_of_prompts(5) < 0.5 * part_of_prompts(1)
