"""The retry budget bounds second attempts to a share of the traffic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.retry import MIN_TOKENS, RetryBudget


def test_a_quiet_gateway_can_fail_over_and_a_failing_one_can_not_for_ever() -> None:
    budget = RetryBudget()
    granted = 0
    while budget.take():
        granted += 1
    assert granted == MIN_TOKENS
    budget.deposit(0.5)
    assert not budget.take()
    budget.deposit(0.5)
    assert budget.take()


def test_good_times_save_up_no_more_than_the_cap() -> None:
    budget = RetryBudget(cap=12.0)
    for _ in range(1000):
        budget.deposit(0.1)
    assert sum(budget.take() for _ in range(100)) == 12


@given(st.lists(st.booleans(), max_size=300), st.floats(0, 1))
def test_retries_never_exceed_the_start_and_the_share_of_requests(story: list[bool], share: float) -> None:
    budget = RetryBudget()
    requests = retries = 0
    for is_request in story:
        if is_request:
            budget.deposit(share)
            requests += 1
        else:
            retries += budget.take()
        assert retries <= MIN_TOKENS + requests * share + 1e-6
