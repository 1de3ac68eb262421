"""Durations, shares, money and secrets: what is read is what was meant, and anything else is refused with a remedy."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.units import (
    UnitError,
    nanousd,
    parse_duration,
    parse_percent,
    parse_span,
    resolve_env,
    show_duration,
    show_percent,
    show_span,
)

SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("800ms", 0.8),
        ("30s", 30.0),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("0.5h", 1800.0),
        ("8760h", 31536e3),
    ],
)
def test_a_duration_is_in_seconds(written, seconds):
    assert parse_duration(written) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("written", "seconds"), [("0s", 0.0), ("90s", 90.0), ("5m", 300.0), ("24h", 86_400.0), ("36500d", 100 * 31_536e3)]
)
def test_a_span_may_be_days_or_nothing(written, seconds):
    assert parse_span(written) == seconds


@pytest.mark.parametrize("written", ["", "7", "d", "1.5d", "-1d", "1w", "1 d", "٣d", "36501d", "9999999999s", "1d1h"])
def test_what_is_no_span_is_refused_with_a_remedy(written):
    with pytest.raises(UnitError, match=r"^.+: write "):
        parse_span(written)


@given(number=st.integers(1, 10**6), unit=st.sampled_from(list(SECONDS)))
def test_every_duration_within_a_year_is_read(number, unit):
    seconds = number * SECONDS[unit]
    if seconds <= 365 * 24 * 3600:
        assert parse_duration(f"{number}{unit}") == pytest.approx(float(seconds), rel=1e-12)
    else:
        with pytest.raises(UnitError, match="year"):
            parse_duration(f"{number}{unit}")


@given(milliseconds=st.integers(1, 10**9))
def test_what_is_shown_is_read_back(milliseconds):
    seconds = milliseconds / 1000
    assert parse_duration(show_duration(seconds)) == pytest.approx(seconds, rel=1e-5)


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ("30", "`30s`"),
        (30, "`30s`"),
        (1.5, "`1.5s`"),
        ("10 m", "`10m`"),
        ("10min", "`10m`"),
        ("-5s", "`30s`"),
        ("", "`30s`"),
        ("0s", "above zero"),
        ("8761h", "at most"),
        ("1e3s", "`30s`"),
        ("٣s", "`30s`"),
        ("1h30m", "`30s`"),
        (None, "`30s`"),
        (True, "`30s`"),
        (["30s"], "`30s`"),
    ],
)
def test_what_is_no_duration_says_what_to_write(written, remedy):
    with pytest.raises(UnitError) as caught:
        parse_duration(written)
    assert remedy in caught.value.remedy
    assert str(written) in caught.value.wrong


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text())))
def test_no_value_breaks_the_readers(value):
    for parse in (parse_duration, parse_percent):
        try:
            outcome = parse(value)
        except UnitError as error:
            outcome = error
        assert (outcome.wrong and outcome.remedy) if isinstance(outcome, UnitError) else outcome >= 0


@given(st.decimals(0, 100, places=3))
def test_a_percentage_is_a_share_of_one(percent):
    share = parse_percent(f"{percent}%")
    assert share == pytest.approx(float(percent) / 100)
    assert parse_percent(show_percent(share)) == pytest.approx(share, rel=1e-4)


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ("10", "`10%`"),
        (10, "`10%`"),
        ("0.1", "`0.1%`"),
        ("ten%", "`10%`"),
        ("101%", "`100%`"),
        ("-1%", "`10%`"),
        ("", "`10%`"),
    ],
)
def test_what_is_no_percentage_says_what_to_write(written, remedy):
    with pytest.raises(UnitError) as caught:
        parse_percent(written)
    assert remedy in caught.value.remedy


def test_a_secret_comes_from_the_environment():
    environ = {"HOST": "redis.internal", "PASSWORD": "p4ss"}
    assert resolve_env("${env:PASSWORD}", environ) == "p4ss"
    assert resolve_env("redis://:${env:PASSWORD}@${env:HOST}/0", environ) == "redis://:p4ss@redis.internal/0"
    assert resolve_env("no secret", environ) == "no secret"


@given(value=st.text(min_size=1), before=st.text(alphabet="abc:/@"), after=st.text(alphabet="abc:/@"))
def test_a_value_is_taken_as_it_is(value, before, after):
    """Also one that looks like a reference itself: values are not read again."""
    assert resolve_env(f"{before}${{env:NAME}}{after}", {"NAME": value}) == before + value + after


@pytest.mark.parametrize(
    ("written", "environ", "wrong", "remedy"),
    [
        ("${env:KEY}", {}, "KEY is not set", "export KEY="),
        ("${env:KEY}", {"KEY": ""}, "KEY is empty", "export KEY="),
        ("${KEY}", {"KEY": "x"}, "${", "`${env:NAME}`"),
        ("${env:}", {}, "${", "`${env:NAME}`"),
        ("${env:A-B}", {}, "${", "`${env:NAME}`"),
        ("os.environ/KEY", {"KEY": "x"}, "not read from the environment", "`${env:KEY}`"),
    ],
)
def test_a_secret_that_cannot_be_had_is_named(written, environ, wrong, remedy):
    with pytest.raises(UnitError) as caught:
        resolve_env(written, environ)
    assert wrong in caught.value.wrong
    assert remedy in caught.value.remedy


@given(st.decimals(0, 10**6, places=9))
def test_money_is_exact_to_the_digits_written(usd):
    if Decimal(repr(float(usd))) == usd:  # a float keeps 15 digits; what it keeps is kept
        assert nanousd(float(usd)) == int(usd * 10**9)


def test_money_does_not_drift():
    assert nanousd(0.1) + nanousd(0.2) == nanousd(0.3) == 300_000_000
    assert nanousd(1e-6) == 1000
    assert nanousd(1e-10) == 0
    assert nanousd(500) == 500_000_000_000


@pytest.mark.parametrize(("seconds", "written"), [(34_560_000.0, "400d"), (5400.0, "90m"), (7.0, "7s"), (0.0, "0s")])
def test_a_span_is_shown_as_it_is_written(seconds: float, written: str) -> None:
    assert show_span(seconds) == written
    assert parse_span(written) == seconds
