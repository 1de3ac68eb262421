"""An allowance bounds second attempts to a share of the traffic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.allowance import Allowance


def test_a_quiet_gateway_can_fail_over_and_a_failing_one_can_not_for_ever() -> None:
    allowance = Allowance(start=10.0, cap=100.0)
    granted = 0
    while allowance.take():
        granted += 1
    assert granted == 10
    allowance.deposit(0.5)
    assert not allowance.take()
    allowance.deposit(0.5)
    assert allowance.take()


def test_good_times_save_up_no_more_than_the_cap() -> None:
    allowance = Allowance(start=0.0, cap=12.0)
    for _ in range(1000):
        allowance.deposit(0.1)
    assert sum(allowance.take() for _ in range(100)) == 12


@pytest.mark.parametrize("start", [0.0, 10.0])
@given(story=st.lists(st.booleans(), max_size=300), share=st.floats(0, 1))
def test_second_attempts_never_exceed_the_start_and_the_share_of_requests(
    start: float, story: list[bool], share: float
) -> None:
    allowance = Allowance(start=start, cap=100.0)
    requests = seconds = 0
    for is_request in story:
        if is_request:
            allowance.deposit(share)
            requests += 1
        else:
            seconds += allowance.take()
        assert seconds <= start + requests * share + 1e-6
