"""What visits were to a worker within a window."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.attribution.fit import Observations, Totals
from gateway.attribution.model import Coefficients
from gateway.attribution.visit import Visit, visit_of
from gateway.attribution.work import UNSURE, work_of

C = Coefficients(8e-3, 3e-5, 5e-10, 3e-5, 4e-8)


def visit(
    tenant: str = "a", opened: float = 0.0, ttft: float | None = 1.0, duration: float = 11.0, **tokens: int
) -> Visit:
    counts = {"prompt": 1_000, "cached": 0, "output": 101, **tokens}
    return visit_of(1, 1, tenant, opened, ttft, duration, **counts, c=C)


VISITS = st.builds(
    visit,
    st.sampled_from("abc"),
    st.floats(0, 100),
    st.none() | st.floats(0, 30),
    st.floats(0, 60),
    prompt=st.integers(0, 10_000),
    cached=st.integers(0, 10_000),
    output=st.integers(0, 2_000),
)


def alone(one: Visit) -> float:
    new, after = one.prompt - one.cached, max(0, one.output - 1)
    decoded = after * (C.a3 + C.a4 * (one.prompt + after / 2))
    return C.a1 * new + C.a2 * new * (one.cached + new / 2) + decoded


@given(st.lists(VISITS, min_size=1, max_size=8), st.lists(st.floats(0.5, 159), max_size=6))
def test_the_parts_of_all_windows_sum_to_the_whole(visits, cuts):
    bounds = [-1.0, *sorted(cuts), 161.0]
    linear, busy = [0.0] * len(visits), 0.0
    for start, end in itertools.pairwise(bounds):
        there = [i for i, one in enumerate(visits) if one.opened < end and one.end >= start]
        work = work_of([visits[i] for i in there], C, start, end)
        busy += work.busy
        for i, part in zip(there, work.linear, strict=True):
            linear[i] += part
    assert linear == pytest.approx([alone(one) for one in visits], rel=1e-6, abs=1e-7)
    assert busy == pytest.approx(work_of(visits, C, -1.0, 161.0).busy, abs=1e-6)


@given(st.lists(VISITS, min_size=1, max_size=8))
def test_nothing_is_negative_and_nobody_is_alone_for_longer_than_the_window(visits):
    visits = [one for one in visits if one.opened < 60.0]
    work = work_of(visits, C, 0.0, 60.0)
    assert min([*work.linear, *work.fixed, *work.present], default=0.0) >= -1e-9
    assert all(0 <= seconds <= 60.0 + 1e-6 for seconds in work.alone)
    assert 0 <= work.busy <= 60.0 + 1e-6
    assert len(work.alone) == len({one.tenant for one in visits})


def test_cached_tokens_are_not_computed():
    [new], [cached] = (work_of([one], C, 0.0, 60.0).linear for one in (visit(), visit(cached=1_000)))
    assert new - cached == pytest.approx(1_000 * C.a1 + C.a2 * 1_000 * 500)


def test_steps_are_shared_by_tenant_and_then_by_visit():
    work = work_of([visit("a"), visit("a"), visit("b")], C, 0.0, 60.0)
    a, again, b = work.fixed
    assert a == pytest.approx(again)
    assert a + again == pytest.approx(b)
    assert a + again + b == pytest.approx(101 * C.a0)  # one token of each a step


def test_the_order_of_those_that_come_together_changes_nothing():
    visits = [visit("a"), visit("b", output=1, ttft=None, duration=1.0), visit("c")]
    fixed = work_of(visits, C, 0.0, 60.0).fixed
    assert work_of(visits[::-1], C, 0.0, 60.0).fixed == pytest.approx(fixed[::-1])
    assert fixed[0] == pytest.approx(fixed[2])


def test_whole_answers_have_their_first_token_estimated():
    one = visit(ttft=None)
    assert one.whole
    assert 0.0 < one.first < 1.0  # a thousand tokens of prompt against a hundred steps
    assert visit(ttft=10.95).whole
    assert not visit(ttft=5.0).whole
    assert not visit(output=1, ttft=None).whole


def test_impossible_numbers_are_put_right():
    odd = visit_of(1, 1, "a", 5.0, 9.0, -1.0, 10, 50, -3, C)
    assert (odd.opened, odd.first, odd.end, odd.cached, odd.output) == (5.0, 5.0, 5.0, 10, 0)
    assert sum(work_of([odd], C, 0.0, 60.0).linear) == 0.0


class _Heard(Observations):
    """What is told of stretches, by when they ended."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: dict[float, float] = {}
        self.stepping: dict[float, float] = {}

    def add(self, before: Totals, after: Totals, steps: float, weight: float = 1.0) -> None:
        self.weights[after.at] = weight
        self.stepping[after.at] = after.stepping - before.stepping


def test_stretches_that_cut_a_prompt_or_an_answer_are_hardly_believed():
    heard = _Heard()
    work_of(
        [
            visit(),  # answers from 1 to 11, while the next one's prompt is computed
            visit(opened=9.0, ttft=4.0, duration=9.0),  # from 13 to 18
            visit(opened=20.0, duration=40.0),  # from 21 on, past the window's end
        ],
        C,
        0.0,
        30.0,
        heard,
    )
    assert heard.weights == {1.0: 1.0, 11.0: UNSURE, 18.0: 1.0, 21.0: 1.0, 30.0: UNSURE}


def test_first_tokens_of_one_step_cut_nothing():
    heard = _Heard()
    work_of([visit(), visit(ttft=1.0005)], C, 0.0, 30.0, heard)
    assert set(heard.weights.values()) == {1.0}


def test_steps_are_even_in_the_time_that_prompts_leave():
    heard = _Heard()
    work_of([visit(), visit(opened=2.0, ttft=1.0, duration=2.0, prompt=10_000)], C, 0.0, 30.0, heard)
    computing = C.a1 * 10_000 + C.a2 * 10_000 * 5_000
    assert heard.stepping[11.0] == pytest.approx(10 - computing)
