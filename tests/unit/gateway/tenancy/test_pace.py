"""What is likely to be needed soon, by what was taken of late."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tenancy.allotment import HORIZON
from gateway.tenancy.pace import LEARNING, LEAST, Pace

NOON = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * 1_000


def test_a_pace_is_learnt_and_forgotten_in_about_a_second() -> None:
    pace, now = Pace(), NOON
    pace.ahead(HORIZON, now)
    for _ in range(40):
        now += 50
        pace.take(10)
        expected = pace.ahead(HORIZON, now)
    assert expected == pytest.approx(10 * HORIZON / 50, rel=0.05)
    for _ in range(60):
        now += 50
        expected = pace.ahead(HORIZON, now)
    assert expected == 0


def test_one_burst_is_not_taken_for_a_pace() -> None:
    pace = Pace()
    pace.ahead(HORIZON, NOON)
    pace.take(1_000)
    assert pace.ahead(HORIZON, NOON + LEAST - 1) == 0
    assert pace.ahead(HORIZON, NOON + 50) <= 1_000
    assert pace.ahead(HORIZON, NOON + 10 * LEARNING) == 0


def test_a_clock_that_is_set_back_is_no_pace() -> None:
    pace = Pace()
    pace.ahead(HORIZON, NOON)
    pace.take(10)
    assert pace.ahead(HORIZON, NOON - 3_600_000) == 0
    pace.take(10)
    assert 0 < pace.ahead(HORIZON, NOON - 3_600_000 + 100) <= 100


@given(st.lists(st.tuples(st.integers(0, 1_000), st.integers(-50, 5_000)), max_size=60))
def test_no_more_is_expected_than_was_ever_taken_in_so_much_time(steps: list[tuple[int, int]]) -> None:
    pace, now, fastest = Pace(), NOON, 0.0
    pace.ahead(HORIZON, now)
    since, taken = now, 0
    for amount, passes in steps:
        pace.take(amount)
        taken += amount
        now += passes
        if now < since:
            since = now
        elif now - since >= LEAST:
            fastest = max(fastest, taken / (now - since))
            since, taken = now, 0
        assert 0 <= pace.ahead(HORIZON, now) <= fastest * HORIZON + 1
