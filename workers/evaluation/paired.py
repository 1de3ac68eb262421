"""Two models on the same examples: did the candidate lose anything, how much, and is that shown or merely not excluded?

An example both have right, or both wrong, says nothing of the difference. What counts are the flips: `lost`, which only
the reference has right, and `gained`, which only the candidate has right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Literal

from workers.errors import WorkerToolError
from workers.evaluation import result

MARGIN_POINTS = 1.0
SIGNIFICANCE = 0.05
CONFIDENCE = 0.95
EXACT_FLIPS = 100_000  # above it the first term comes from log-gamma, whose relative error is about 1e-9 there
BISECTIONS = 60

Finding = Literal["not worse", "worse", "undecided"]


class NotPaired(WorkerToolError):
    """The two did not answer the same examples."""


def mcnemar(lost: int, gained: int) -> float:
    """The exact one-sided p-value of a loss: P(X ≥ lost), X binomial with lost + gained trials of one half.

    McNemar (1947) in its exact, conditional form: where neither is better, each flip falls to either side like a coin.
    Raises ValueError for negative counts.
    """
    if lost < 0 or gained < 0:
        raise ValueError(f"counts of flips are not negative: {lost} lost, {gained} gained")
    flips = lost + gained
    if 2 * lost > flips:
        return min(1.0, _upper_tail(flips, lost))
    return 1.0 - _upper_tail(flips, gained + 1) if lost else 1.0


def _upper_tail(trials: int, least: int) -> float:
    """P(X ≥ least) for `least` above the middle: terms that only shrink, each from the one before."""
    if least > trials:
        return 0.0
    if trials <= EXACT_FLIPS:
        first = math.comb(trials, least) / (1 << trials)
    else:
        logarithm = math.lgamma(trials + 1) - math.lgamma(least + 1) - math.lgamma(trials - least + 1)
        first = math.exp(logarithm - trials * math.log(2))
    total, term = first, first
    for successes in range(least, trials):
        term *= (trials - successes) / (successes + 1)
        total += term
        if term < total * 1e-17:
            break
    return total


def loss_interval(lost: int, gained: int, examples: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The confidence interval of the difference in accuracy (reference - candidate), as shares.

    Tango's score interval for paired proportions (Statistics in Medicine 17, 1998, 891-908). It holds its level with
    few flips and has a width even with none, which the bootstrap and Wald's interval have not. Raises ValueError for
    impossible counts.
    """
    if min(lost, gained) < 0 or examples < max(1, lost + gained):
        raise ValueError(f"{lost} lost and {gained} gained of {examples} examples cannot be")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    return -_upper(gained, lost, examples, z), _upper(lost, gained, examples, z)


def _upper(lost: int, gained: int, examples: int, z: float) -> float:
    """The largest loss that the score test does not reject."""
    estimate = (lost - gained) / examples

    def rejected(loss: float) -> bool:
        variance = 2 * gained_share(lost, gained, examples, loss) + loss * (1 - loss)
        return (lost - gained - examples * loss) ** 2 > z * z * examples * variance

    return _boundary(rejected, estimate, 1.0) if rejected(1.0) else 1.0


def gained_share(lost: float, gained: float, examples: int, loss: float) -> float:
    """The most likely probability of a gain where the loss is known to be `loss` (Tango's constrained estimate)."""
    a = 2 * examples
    b = (2 * examples - lost + gained) * loss - lost - gained
    c = -gained * loss * (1 - loss)
    return (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)


def _boundary(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where `holds` begins, which it does not at `low` and does at `high`."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def compare(name: str, reference: Mapping[str, bool], candidate: Mapping[str, bool]) -> result.Task:
    """What became of each example: identity → whether it was right. Raises NotPaired."""
    if reference.keys() != candidate.keys() or not reference:
        alone = reference.keys() ^ candidate.keys()
        raise NotPaired(
            f"task {name}: the reference answered {len(reference)} examples and the candidate {len(candidate)}, "
            f"{len(alone)} of them only one of the two; ask both the same examples with the same seed"
        )
    lost = sum(right and not candidate[example] for example, right in reference.items())
    gained = sum(candidate[example] and not right for example, right in reference.items())
    examples = len(reference)
    low, high = loss_interval(lost, gained, examples)
    return result.Task(
        name=name,
        examples=examples,
        reference_correct=sum(reference.values()),
        candidate_correct=sum(candidate.values()),
        lost=lost,
        gained=gained,
        p_value=mcnemar(lost, gained),
        loss_points=result.Interval(value=100 * (lost - gained) / examples, low=100 * low, high=100 * high),
    )


def finding(task: result.Task, margin_points: float = MARGIN_POINTS) -> Finding:
    """`not worse` where the whole interval is below the margin, `worse` where a loss is significant, otherwise
    `undecided`: there is no evidence of a loss, and too few examples to exclude one."""
    if task.loss_points.high < margin_points:
        return "not worse"
    return "worse" if task.p_value < SIGNIFICANCE and task.loss_points.value > 0 else "undecided"


def examples_needed(flips: float, margin_points: float = MARGIN_POINTS) -> int:
    """How many examples exclude a loss of the margin, when a share `flips` of them flips, as many lost as gained."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    margin = margin_points / 100
    variance = 2 * gained_share(flips / 2, flips / 2, 1, margin) + margin * (1 - margin)
    return math.ceil(z * z * variance / (margin * margin))
