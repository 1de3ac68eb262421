from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.evaluation.report import numbers as n

S = "\u202f"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.0031, "0.0031"),
        (0.45, "0.45"),
        (2.314, "2.31"),
        (12_345, "12,345"),
        (0.000012, "1.2·10⁻⁵"),
        (-0.25, "−0.25"),
        (9.999, "10"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers_have_as_many_digits_as_they_mean(value: float | None, said: str) -> None:
    assert n.number(value) == said


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (n.size(4_760_000), f"4.76{S}MB"),
        (n.size(14e9), f"14{S}GB"),
        (n.size(999_600), f"1{S}MB"),
        (n.size(0), f"0{S}B"),
        (n.change(1.0042), f"+0.42{S}%"),
        (n.change(0.52), f"−48{S}%"),
        (n.change(1), f"±0{S}%"),
        (n.change(20.0), "20×"),
        (n.percent(0.981), f"98.1{S}%"),
        (n.times(1.3654), "1.37×"),
        (n.times(23.4), "23×"),
        (n.points(-0.04), "±0"),
        (n.points(-3.0), "−3.0"),
        (n.probability(0.0002), "<0.001"),
        (n.probability(0.5), "0.50"),
        (n.milliseconds(11.04), f"11{S}ms"),
        (n.counted(1, "gate"), "one gate"),
        (n.counted(14, "gate"), "14 gates"),
        (n.listed([]), ""),
        (n.listed(["a"]), "a"),
        (n.listed(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_each_unit_is_written_as_people_read_it(said: str, expected: str) -> None:
    assert said == expected


@given(st.floats())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_float_can_be_written(value: float) -> None:
    for form in (n.number, n.size, n.percent, n.change, n.times, n.points, n.milliseconds, n.probability):
        assert (form(value) == n.NONE) == (not math.isfinite(value))


@given(st.floats(1e-4, 1e9), st.integers(2, 5))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_written_number_is_near_the_number(value: float, digits: int) -> None:
    read = float(n.number(value, digits).replace(",", ""))

    assert math.isclose(read, value, rel_tol=0.5 * 10 ** (1 - digits) * 1.001)
