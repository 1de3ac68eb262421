"""Who fails far more than its siblings is left alone for a while, but never most of them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.outliers import FEWEST, FIRST_EJECTION, LONGEST_EJECTION, Standing, look


def standing(attempts: float = 100.0, share: float = 0.0, **more: float) -> Standing:
    return Standing(attempts, attempts * share, **more)  # type: ignore[arg-type]


def test_one_of_several_that_fails_often_is_ejected() -> None:
    siblings = [standing(), standing(share=0.25), standing(share=0.01)]
    assert look(siblings, 50.0) == [1]
    assert siblings[1].ejected_until == 50.0 + FIRST_EJECTION


def test_when_all_fail_alike_nobody_stands_out() -> None:
    assert look([standing(share=0.3), standing(share=0.35), standing(share=0.4)], 0.0) == []


def test_few_attempts_say_nothing() -> None:
    assert look([standing(FEWEST - 1, share=1.0), standing(), standing()], 0.0) == []
    assert look([standing(share=1.0), standing(FEWEST - 1)], 0.0) == []


def test_rare_failures_are_no_reason() -> None:
    assert look([standing(share=0.1), standing(), standing()], 0.0) == []


def test_the_only_one_stays() -> None:
    assert look([standing(share=1.0)], 0.0) == []


def test_of_two_one_stays() -> None:
    siblings = [standing(share=0.9), standing(share=0.2)]
    assert look(siblings, 0.0) == [0]
    siblings[1].attempts, siblings[1].failures = 100.0, 100.0
    assert look(siblings, 1.0) == []


def test_who_comes_back_and_fails_again_is_out_for_longer() -> None:
    siblings = [standing(share=0.5), standing()]
    until = [0.0]
    for _ in range(40):
        now = until[-1]
        siblings[0].attempts, siblings[0].failures = 100.0, 50.0
        siblings[1].attempts, siblings[1].failures = 100.0, 0.0
        assert look(siblings, now) == [0]
        until.append(siblings[0].ejected_until)
    gaps = [after - before for before, after in pairwise(until)]
    assert gaps[:3] == [FIRST_EJECTION, 2 * FIRST_EJECTION, 3 * FIRST_EJECTION]
    assert gaps[-1] == LONGEST_EJECTION


def test_good_times_are_remembered_too() -> None:
    one = standing(ejections=3)
    for _ in range(5):
        one.attempts = 100.0
        look([one, standing()], 0.0)
    assert one.ejections == 0


@given(
    st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1), st.floats(0, 20)), min_size=1, max_size=9),
    st.floats(0, 20),
)
def test_never_more_than_half_are_out(siblings: list[tuple[float, float, float]], now: float) -> None:
    made = [Standing(attempts, attempts * share, 0, until) for attempts, share, until in siblings]
    before = sum(one.ejected_until > now for one in made)
    ejected = look(made, now)
    after = sum(one.ejected_until > now for one in made)
    assert after == before + len(ejected)
    assert after <= max(before, len(made) // 2)
