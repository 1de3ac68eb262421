"""Periods to the millisecond, against the calendar of the standard library."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tenancy.budget import FOREVER, Per, period

DAY = 86_400_000


def at(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 1_000  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("per", "now", "start", "end"),
    [
        ("day", at(2026, 11, 21, 12), at(2026, 11, 21), at(2026, 11, 22)),
        ("day", at(2026, 11, 21), at(2026, 11, 21), at(2026, 11, 22)),
        ("day", at(2026, 11, 22) - 1, at(2026, 11, 21), at(2026, 11, 22)),
        ("day", at(2028, 2, 28, 23), at(2028, 2, 28), at(2028, 2, 29)),
        ("month", at(2026, 11, 21, 12), at(2026, 11, 1), at(2026, 12, 1)),
        ("month", at(2026, 12, 1) - 1, at(2026, 11, 1), at(2026, 12, 1)),
        ("month", at(2026, 12, 1), at(2026, 12, 1), at(2027, 1, 1)),
        ("month", at(2027, 1, 1) - 1, at(2026, 12, 1), at(2027, 1, 1)),
        ("month", at(2027, 1, 31, 23, 59, 59) + 999, at(2027, 1, 1), at(2027, 2, 1)),
        ("month", at(2028, 2, 29, 12), at(2028, 2, 1), at(2028, 3, 1)),
        ("month", at(2027, 3, 1) - 1, at(2027, 2, 1), at(2027, 3, 1)),
        ("month", at(2100, 3, 1) - 1, at(2100, 2, 1), at(2100, 3, 1)),  # no leap year
        ("total", at(2026, 11, 21), 0, FOREVER),
        ("total", 0, 0, FOREVER),
    ],
)
def test_periods(per: Per, now: int, start: int, end: int) -> None:
    assert period(per, now) == (start, end)


moments = st.integers(0, at(9998, 1, 1))


@given(per=st.sampled_from(["day", "month", "total"]), now=moments)
def test_every_moment_lies_in_one_period_and_periods_touch(per: Per, now: int) -> None:
    start, end = period(per, now)
    assert start <= now < end
    assert period(per, start) == period(per, end - 1) == (start, end)
    if per != "total":
        assert period(per, end)[0] == end
        assert start == 0 or period(per, start - 1)[1] == start


@given(moments)
def test_periods_are_those_of_the_calendar(now: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now)
    start, end = period("month", now)
    assert start == at(moment.year, moment.month, 1)
    assert end - start == monthrange(moment.year, moment.month)[1] * DAY
    assert period("day", now) == (
        at(moment.year, moment.month, moment.day),
        at(moment.year, moment.month, moment.day) + DAY,
    )


def test_all_time_ends_with_the_calendar() -> None:
    assert FOREVER - 1 == at(9999, 12, 31, 23, 59, 59) + 999
