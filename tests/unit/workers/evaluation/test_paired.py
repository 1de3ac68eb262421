from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.evaluation.paired import (
    NotPaired,
    compare,
    examples_needed,
    finding,
    gained_share,
    loss_interval,
    mcnemar,
)


def by_definition(lost: int, gained: int) -> Fraction:
    flips = lost + gained
    return Fraction(sum(math.comb(flips, k) for k in range(lost, flips + 1)), 2**flips)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_binomial_tail(lost: int, gained: int) -> None:
    assert mcnemar(lost, gained) == pytest.approx(float(by_definition(lost, gained)), rel=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(0, 2000))
def test_mcnemar_is_a_probability_that_falls_with_each_example_lost(lost: int, gained: int) -> None:
    assert 0 <= mcnemar(lost + 1, gained) <= mcnemar(lost, gained) <= mcnemar(lost, gained + 1) <= 1


@pytest.mark.parametrize("lost", [49_000, 50_000, 50_900, 51_000, 99_000])
def test_mcnemar_agrees_with_itself_where_it_changes_its_way(lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    exactly = mcnemar(lost, 100_000 - lost)
    monkeypatch.setattr("workers.evaluation.paired.EXACT_FLIPS", 0)
    assert mcnemar(lost, 100_000 - lost) == pytest.approx(exactly, rel=1e-7)


def test_mcnemar_of_millions() -> None:
    assert mcnemar(5_000_000, 5_000_000) == pytest.approx(0.5 + 0.5 * 2.523e-4, rel=1e-4)
    assert mcnemar(5_005_000, 4_995_000) == pytest.approx(math.erfc(9_999 / math.sqrt(2e7)) / 2, rel=1e-3)
    assert mcnemar(10_000_000, 0) == 0


def test_mcnemar_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="-1 lost"):
        mcnemar(-1, 0)


def test_tango_as_published() -> None:
    """The airway reactivity of 21 children in Fagerland, Lydersen and Laake (BMC Medical Research Methodology 14),
    1 and 7 discordant pairs: asymptotic score interval (-0.517, -0.026)."""
    low, high = loss_interval(1, 7, 21)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


counts = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 500)).filter(any)


@settings(deadline=None)
@given(counts)
def test_tango_solves_its_equation(drawn: tuple[int, int, int]) -> None:
    """Both ends are roots of the quartic of Yang, Sun and Hardin (Statistics in Medicine 32, 2013), found another
    way."""
    lost, gained, same = drawn
    n = lost + gained + same
    low, high = loss_interval(lost, gained, n)
    d, g = lost - gained, 1.959963984540054**2
    quartic = (
        n**2 * (n / g + 1) ** 2,
        -n * d * (n / g + 1) * (4 * n / g + 1),
        2 * n * d**2 * (3 * n / g + 2) / g - n**2 * ((lost + gained) / g + 1),
        n * d * (2 * (lost + gained) / g + 1) - d**3 * (4 * n / g + 1) / g,
        d**2 * (d**2 / g - (lost + gained)) / g,
    )
    assert -1 <= low <= d / n <= high <= 1
    for end in (low, high):
        terms = [factor * end**power for factor, power in zip(quartic, (4, 3, 2, 1, 0), strict=True)]
        assert abs(sum(terms)) <= 1e-7 * (1 + sum(abs(term) for term in terms))


@settings(deadline=None)
@given(counts, st.floats(0.001, 0.5))
def test_the_constrained_estimate_is_the_most_likely(drawn: tuple[int, int, int], loss: float) -> None:
    lost, gained, same = drawn
    n = lost + gained + same
    most = (1 - loss) / 2

    def likelihood(share: float) -> float:
        parts = ((lost, share + loss), (gained, share), (same, 1 - 2 * share - loss))
        return sum(count * math.log(probability) for count, probability in parts if count and probability > 0) + sum(
            -math.inf for count, probability in parts if count and probability <= 0
        )

    estimate = min(max(gained_share(lost, gained, n, loss), 0.0), most)
    best = max(likelihood(most * step / 200) for step in range(201))
    assert likelihood(estimate) >= best - 1e-6 * (1 + abs(best))


@settings(deadline=None)
@given(counts)
def test_the_interval_turns_around_with_its_arguments(drawn: tuple[int, int, int]) -> None:
    lost, gained, same = drawn
    low, high = loss_interval(lost, gained, lost + gained + same)
    assert loss_interval(gained, lost, lost + gained + same) == pytest.approx((-high, -low))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Exactly, over every outcome of sixty examples of which an eighth is lost and a twelfth gained."""
    n, lose, gain = 60, 1 / 8, 1 / 12
    covered = 0.0
    for lost in range(n + 1):
        for gained in range(n + 1 - lost):
            low, high = loss_interval(lost, gained, n)
            if low <= lose - gain <= high:
                ways = math.comb(n, lost) * math.comb(n - lost, gained)
                covered += ways * lose**lost * gain**gained * (1 - lose - gain) ** (n - lost - gained)
    assert covered == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("counts", [(-1, 0, 5), (0, 0, 0), (3, 3, 5)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        loss_interval(*counts)


def outcomes(lost: int, gained: int, right: int, wrong: int) -> tuple[dict[str, bool], dict[str, bool]]:
    pairs = [(True, False)] * lost + [(False, True)] * gained + [(True, True)] * right + [(False, False)] * wrong
    return {str(n): one for n, (one, _) in enumerate(pairs)}, {str(n): other for n, (_, other) in enumerate(pairs)}


def test_a_task_is_compared_example_by_example() -> None:
    task = compare("sums", *outcomes(lost=30, gained=10, right=140, wrong=20))

    assert (task.examples, task.reference_correct, task.candidate_correct) == (200, 170, 150)
    assert (task.lost, task.gained, task.flips) == (30, 10, 40)
    assert task.p_value == pytest.approx(float(by_definition(30, 10)))
    assert task.loss_points.value == 10
    assert 3 < task.loss_points.low < 10 < task.loss_points.high < 17


def test_only_the_same_examples_can_be_compared() -> None:
    reference, candidate = outcomes(1, 1, 5, 5)
    del candidate["3"]
    with pytest.raises(NotPaired, match="12 examples and the candidate 11"):
        compare("sums", reference, candidate)
    with pytest.raises(NotPaired):
        compare("sums", {}, {})


@pytest.mark.parametrize(
    ("lost", "gained", "examples", "found"),
    [
        (0, 0, 1000, "not worse"),
        (0, 0, 100, "undecided"),  # nothing was lost, of too few
        (30, 10, 400, "worse"),
        (12, 10, 400, "undecided"),
        (60, 30, 20_000, "not worse"),  # a loss that is significant, and too small to matter
        (0, 9, 100, "not worse"),
    ],
)
def test_what_is_found(lost: int, gained: int, examples: int, found: str) -> None:
    assert finding(compare("t", *outcomes(lost, gained, examples - lost - gained, 0))) == found


@pytest.mark.parametrize("flips", [0.0, 0.02, 0.1])
def test_so_many_examples_are_enough_to_exclude_the_margin(flips: float) -> None:
    needed = examples_needed(flips)
    each = round(needed * flips / 2)
    assert loss_interval(each, each, needed)[1] == pytest.approx(0.01, abs=0.0005)
