"""Budget periods of the UTC calendar, and the account of one."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tenancy.spending import Spending, period


def unix(*moment):
    return datetime(*moment, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("per", "now", "start", "end"),
    [
        ("day", (2026, 11, 21, 7, 30), (2026, 11, 21), (2026, 11, 22)),
        ("day", (2026, 11, 21), (2026, 11, 21), (2026, 11, 22)),
        ("month", (2026, 11, 21, 7, 30), (2026, 11, 1), (2026, 12, 1)),
        ("month", (2026, 12, 31, 23, 59, 59), (2026, 12, 1), (2027, 1, 1)),
        ("month", (2028, 2, 29), (2028, 2, 1), (2028, 3, 1)),
    ],
)
def test_periods_follow_the_utc_calendar(per, now, start, end):
    assert period(per, unix(*now)) == (unix(*start), unix(*end))


def test_a_total_budget_has_one_period():
    assert period("total", unix(2026, 11, 21)) == (0.0, float("inf"))


moments = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2050, 1, 1))


@given(moment=moments, per=st.sampled_from(["day", "month"]))
def test_every_moment_lies_in_its_period_and_periods_join(moment, per):
    now = moment.replace(tzinfo=UTC).timestamp()
    start, end = period(per, now)
    assert start <= now < end
    assert period(per, end)[0] == end
    assert period(per, start) == (start, end)
    assert datetime.fromtimestamp(end, UTC) - datetime.fromtimestamp(start, UTC) <= timedelta(days=31)


def test_a_new_period_begins_at_nothing_spent():
    spending = Spending()
    spending.enter("day", unix(2026, 11, 21, 12))
    spending.reserved = 30
    spending.settle(30, 20, spending.generation, unix(2026, 11, 21, 12))
    assert (spending.spent, spending.reserved) == (20, 0)
    spending.reserved = 5
    spending.enter("day", unix(2026, 11, 22))
    assert (spending.spent, spending.reserved) == (0, 0)


def test_what_began_before_midnight_is_not_charged_to_the_new_day():
    spending = Spending()
    spending.enter("day", unix(2026, 11, 21, 23, 59))
    yesterday = spending.generation
    spending.reserved = 30
    spending.enter("day", unix(2026, 11, 22, 0, 0, 1))
    spending.reserved = 7
    spending.settle(30, 20, yesterday, unix(2026, 11, 21, 23, 59))
    assert (spending.spent, spending.reserved) == (0, 7)


def test_a_clock_set_back_does_not_reopen_a_period():
    spending = Spending()
    spending.enter("day", unix(2026, 11, 22))
    spending.settle(0, 20, spending.generation, unix(2026, 11, 22))
    spending.enter("day", unix(2026, 11, 21, 23, 59))
    assert spending.spent == 20


def test_a_seed_waits_for_its_period():
    spending = Spending()
    spending.seed(unix(2026, 11, 1), 500)
    assert spending.knows(unix(2026, 11, 1))
    spending.enter("month", unix(2026, 11, 21))
    assert spending.spent == 500
    assert spending.knows(unix(2026, 11, 1))
    assert not spending.knows(unix(2026, 10, 1))


def test_a_seed_of_a_period_that_is_over_is_dropped():
    spending = Spending()
    spending.seed(unix(2026, 11, 1), 500)
    spending.enter("month", unix(2026, 12, 1))
    assert spending.spent == 0
    assert not spending.knows(unix(2026, 11, 1))


def test_a_budget_that_changes_its_period_takes_up_the_seed_for_it():
    spending = Spending()
    spending.enter("day", unix(2026, 11, 21))
    spending.settle(0, 20, spending.generation, unix(2026, 11, 21))
    running = spending.generation
    assert not spending.knows(unix(2026, 11, 1))
    spending.seed(unix(2026, 11, 1), 500)
    spending.enter("month", unix(2026, 11, 21, 1))
    assert spending.spent == 500
    spending.settle(5, 3, running, unix(2026, 11, 21))  # began under the old period, and within the new one
    assert (spending.spent, spending.reserved) == (503, 0)


def test_a_seed_replaces_the_current_account():
    spending = Spending()
    spending.enter("total", unix(2026, 11, 21))
    spending.seed(0.0, 70)
    assert spending.spent == 70


@pytest.mark.parametrize(
    ("spent", "reserved", "cost", "affordable"),
    [
        (0, 0, 100, True),
        (0, 0, 101, False),
        (50, 40, 10, True),
        (50, 41, 10, False),
        (100, 0, 0, False),
        (99, 1, 0, True),
    ],
)
def test_what_a_budget_of_a_hundred_affords(spent, reserved, cost, affordable):
    assert Spending(spent=spent, reserved=reserved).affords(cost, 100) is affordable
