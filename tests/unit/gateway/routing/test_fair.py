"""Virtual counters by themselves: what is charged, what is put right, and what is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.usage import NO_USAGE, Usage
from gateway.routing.fair import ENOUGH, EVIDENCE_SECONDS, Account, Contest, Turnover, cost, rank
from gateway.table import PRIORITIES, Priority


def waiting(contest: Contest, tenant: str, requests: int = 1) -> Account:
    account = contest.account(tenant)
    for _ in range(requests):
        account.arrived(1.0)
    return account


def test_output_costs_twice_the_prompt_and_what_was_cached_a_tenth() -> None:
    assert cost(Usage(100, 0, 0)) == 100
    assert cost(Usage(100, 100, 0)) == pytest.approx(10)
    assert cost(Usage(100, 40, 30)) == pytest.approx(60 + 4 + 60)


@given(st.sampled_from(PRIORITIES), st.sampled_from(PRIORITIES) | st.none())
def test_a_request_may_lower_its_class_and_never_raise_it(own: Priority, asked: Priority | None) -> None:
    assert rank(own, asked) >= rank(own, None)
    if asked is not None:
        assert rank(own, asked) == max(rank(own, None), rank(asked, None))


def test_the_classes_go_in_this_order() -> None:
    assert [rank(priority, None) for priority in ("interactive", "standard", "batch")] == [0, 1, 2]


def test_a_place_is_charged_by_the_weight_and_put_right_at_the_end() -> None:
    account = waiting(Contest(), "acme", 2)
    charge = account.charge(100.0, 2.0, 0.0)
    assert account.counter == 50.0
    charge.settle(Usage(100, 0, 50))
    assert account.counter == 100.0
    account.charge(100.0, 2.0, 0.0).void()
    assert account.counter == 100.0


def test_where_nothing_was_counted_the_guess_stands() -> None:
    account = waiting(Contest(), "acme")
    account.charge(100.0, 1.0, 0.0).settle(NO_USAGE)
    assert account.counter == 100.0


def test_answers_are_expected_as_long_as_they_have_been_and_no_longer_than_asked() -> None:
    account = waiting(Contest(), "acme")
    assert account.expected_cost(10, 4096) == 10 + 2 * 4096
    account.charge(1.0, 1.0, 0.0).settle(Usage(10, 0, 50))
    assert account.expected_cost(10, 4096) == 10 + 2 * 50
    assert account.expected_cost(10, 20) == 10 + 2 * 20
    account.charge(1.0, 1.0, 0.0).settle(Usage(10, 0, 100))
    assert account.expected_cost(10, 4096) == 10 + 2 * 60


def test_who_begins_to_wait_starts_where_the_others_are() -> None:
    contest = Contest()
    stays = waiting(contest, "stays", 3)
    for _ in range(2):
        stays.charge(100.0, 1.0, 0.0)
    assert (stays.counter, contest.virtual) == (200.0, 100.0)
    comes = contest.account("comes")
    assert comes.start == 100.0
    comes.arrived(1.0)
    assert comes.counter == 100.0


def test_who_never_stopped_waiting_keeps_what_it_is_owed() -> None:
    contest = Contest()
    patient, served = waiting(contest, "patient"), waiting(contest, "served", 2)
    for _ in range(2):
        served.charge(100.0, 1.0, 0.0)
    patient.arrived(1.0)
    assert patient.counter == 0.0


def test_when_nobody_waits_and_all_is_done_everything_is_forgotten() -> None:
    contest = Contest()
    account = waiting(contest, "acme")
    charge = account.charge(100.0, 1.0, 0.0)
    account.left()
    assert contest.account("acme") is account
    charge.settle(Usage(100, 0, 100))
    assert contest.account("acme") is not account
    assert contest.account("acme").start == 0.0


def test_a_turnover_is_a_mean_at_first_and_follows_slowly_then() -> None:
    turnover = Turnover()
    now = 0.0
    turnover.given(now, more=True)
    for seconds in [9.0] + [1.0] * (ENOUGH - 1):
        assert turnover.seconds(now) is None
        now += seconds
        turnover.given(now, more=True)
    assert turnover.seconds(now) == pytest.approx(2.0)
    for _ in range(200):
        now += 1.0
        turnover.given(now, more=True)
    assert turnover.seconds(now) == pytest.approx(1.0)
    turnover.given(now + 11.0, more=True)
    assert turnover.seconds(now + 11.0) == pytest.approx(2.0)


def test_time_in_which_nobody_waited_is_no_turnover() -> None:
    turnover = Turnover()
    for start in (0.0, 20.0):
        for second in range(ENOUGH):
            turnover.given(start + second, more=second < ENOUGH - 1)
    assert turnover.seconds(30.0) == pytest.approx(1.0)


def test_an_old_turnover_says_nothing() -> None:
    turnover = Turnover()
    for second in range(ENOUGH + 1):
        turnover.given(float(second), more=True)
    assert turnover.seconds(ENOUGH + EVIDENCE_SECONDS) == 1.0
    assert turnover.seconds(ENOUGH + 0.1 + EVIDENCE_SECONDS) is None
