"""The spelling of the rate limit headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tenancy.ratelimit_headers import REQUESTS, TOKENS, Kind, duration

SECOND = 1_000


@pytest.mark.parametrize(
    ("milliseconds", "written"),
    [
        (-5, b"0s"),
        (0, b"0s"),
        (1, b"1ms"),
        (120, b"120ms"),
        (999, b"999ms"),
        (999 + 1, b"1s"),
        (SECOND, b"1s"),
        (8640, b"8.64s"),
        (59_999, b"59.999s"),
        (60 * SECOND, b"1m0s"),
        (360 * SECOND, b"6m0s"),
        (90_500, b"1m30.5s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(milliseconds, written):
    assert duration(milliseconds) == written


@given(milliseconds=st.integers(0, 10_000_000))
def test_no_duration_is_written_shorter_than_it_is(milliseconds):
    text = duration(milliseconds).decode()
    if text.endswith("ms"):
        assert int(text[:-2]) == milliseconds
    else:
        minutes, _, seconds = text.rpartition("m")
        assert round(int(minutes or 0) * 60_000 + float(seconds[:-1]) * 1_000) == milliseconds


@pytest.mark.parametrize(("kind", "name"), [(REQUESTS, "requests"), (TOKENS, "tokens")])
@given(limit=st.integers(0, 2**53), remaining=st.integers(0, 2**53), reset=st.integers(0, 10_000_000))
def test_a_limit_has_three_headers(kind: Kind, name: str, limit: int, remaining: int, reset: int):
    assert kind.lines(limit, remaining, reset).decode().split("\r\n") == [
        f"x-ratelimit-limit-{name}: {limit}",
        f"x-ratelimit-remaining-{name}: {remaining}",
        f"x-ratelimit-reset-{name}: {duration(reset).decode()}",
    ]
