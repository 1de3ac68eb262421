"""What visits are to pay of the time that a worker was busy.

The measure is the Shapley value of the game among tenants in which a set of them is worth the time that the worker
would have been busy for them alone. Two things keep it from being the sum of what each one's work takes:

- Steps are shared. Their fixed time is split equally among the tenants that are there, and a tenant's part among its
  visits (`work`).
- Time fills up. Where a worker is busy nearly always for some, others that come on top slow the first down and hardly
  make it busy for longer. What takes time by itself (prompts) then adds less than what keeps it waiting for more (the
  steps of long answers). How much less follows from how busy a worker is that has linear work R and steps Y to do, in
  parts of the window, for requests that come at random: 1 - (1 - R)·exp(-Y / (1 - R)). That is the queue M/G/1 where
  there are no steps, and M/G/∞ where there is nothing else.

The second is a factor for each tenant: its value in that game, over what sharing by presence alone gives it there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, log
from random import Random

from gateway.attribution.work import Work

EXACTLY = 8  # tenants, up to which all sets of them are tried; above, orders are drawn
ORDERS = 3  # each from every place on, and backwards
MOST_STEPS = 7.0  # in parts of the time that linear work leaves: busy all the time but for a thousandth
FULLEST = 0.98  # of a window may be linear work
_NODES = tuple((i + 0.5) / 8 for i in range(8))


def shares(work: Work, window: float, crowded: float) -> list[float]:
    """By visit, of the seconds that a worker was busy in a window of so many: they sum to these. In the part `crowded`
    of them requests waited for room in the engine."""
    alike = [linear + fixed for linear, fixed in zip(work.linear, work.fixed, strict=True)]
    if not any(alike):
        alike = work.present
    weights = [value * factor for value, factor in _with_factors(work, alike, window, crowded)]
    told = sum(weights)
    return [work.busy * weight / told for weight in weights] if told > 0 else weights


def _with_factors(work: Work, alike: Sequence[float], window: float, crowded: float) -> Iterator[tuple[float, float]]:
    count = len(work.alone)
    of_linear, of_fixed = [0.0] * count, [0.0] * count
    for tenant, linear, fixed in zip(work.tenants, work.linear, work.fixed, strict=True):
        of_linear[tenant] += linear
        of_fixed[tenant] += fixed
    told = sum(of_linear) + sum(of_fixed)
    if count < 2 or told <= 0 or work.busy <= 0:
        return zip(alike, [1.0] * len(alike), strict=True)
    scale = work.busy / told / window  # what the coefficients say is brought in line with what was seen
    linear = [scale * value for value in of_linear]
    most = FULLEST * min(1.0, work.busy / window)
    if sum(linear) > most:
        squeeze = most / sum(linear)
        linear = [squeeze * value for value in linear]
    steps = [_steps(min(1.0, scale * alone), part) for alone, part in zip(work.alone, linear, strict=True)]
    worth, present = values(linear, steps), by_presence(linear, steps)
    factors = [a / b if b > 0 else 1.0 for a, b in zip(worth, present, strict=True)]
    if crowded:  # what is there longer because it waits is not worth more: the game's own value, as far as that goes
        seen = [factor * (a + b) for factor, a, b in zip(factors, of_linear, of_fixed, strict=True)]
        in_line = sum(seen) / sum(worth)
        factors = [
            (1 - crowded) * factor + crowded * in_line * value / (a + b) if a + b > 0 else factor
            for factor, value, a, b in zip(factors, worth, of_linear, of_fixed, strict=True)
        ]
    return zip(alike, [factors[tenant] for tenant in work.tenants], strict=True)


def busy(linear: float, steps: float) -> float:
    """The part of the time that a worker is busy with such parts of linear work and of steps."""
    return 1 - (1 - linear) * exp(-steps / (1 - linear))


def _steps(busy: float, linear: float) -> float:
    """The steps that keep it busy for that part of the time: the inverse of `busy`."""
    idle = (1 - busy) / (1 - linear)
    return 0.0 if idle >= 1 else (1 - linear) * min(MOST_STEPS, -log(max(idle, 1e-9)))


def values(linear: Sequence[float], steps: Sequence[float]) -> list[float]:
    """The Shapley values of the game `busy`."""
    return _exact(linear, steps) if len(linear) <= EXACTLY else _drawn(linear, steps)


def by_presence(linear: Sequence[float], steps: Sequence[float]) -> list[float]:
    """What each has in that game when the steps are split equally among those that are there at each moment."""
    left = 1 - sum(linear)
    absent = [exp(-part / left) for part in steps]
    parts = [0.0] * len(steps)
    for node in _NODES:  # the mean of 1 / (1 + others) is the integral of the mean of x^others from 0 to 1
        factors = [gone + (1 - gone) * node for gone in absent]
        whole = 1.0
        for factor in factors:
            whole *= factor
        for i, factor in enumerate(factors):
            parts[i] += (1 - absent[i]) * whole / factor
    told = sum(parts)
    rest = busy(sum(linear), sum(steps)) - sum(linear)
    return [a + (rest * b / told if told > 0 else 0.0) for a, b in zip(linear, parts, strict=True)]


def _exact(linear: Sequence[float], steps: Sequence[float]) -> list[float]:
    count = len(linear)
    sets = 1 << count
    sums_linear, sums_steps, sizes, worth = [0.0] * sets, [0.0] * sets, [0] * sets, [0.0] * sets
    for one in range(1, sets):
        lowest = one & -one
        rest, player = one ^ lowest, lowest.bit_length() - 1
        sums_linear[one] = sums_linear[rest] + linear[player]
        sums_steps[one] = sums_steps[rest] + steps[player]
        sizes[one] = sizes[rest] + 1
        worth[one] = busy(sums_linear[one], sums_steps[one])
    weight = [1.0 / count]  # of a set of so many others: size! (count - size - 1)! / count!
    for size in range(1, count):
        weight.append(weight[-1] * size / (count - size))
    found = [0.0] * count
    for one in range(sets):
        for player in range(count):
            if not one >> player & 1:
                found[player] += weight[sizes[one]] * (worth[one | 1 << player] - worth[one])
    return found


def _drawn(linear: Sequence[float], steps: Sequence[float]) -> list[float]:
    """Other orders in each window, so that what they miss evens out; the same when one is shared out again."""
    count = len(linear)
    dice = Random(int(1e12 * sum(linear)))
    order = list(range(count))
    found = [0.0] * count
    for _ in range(ORDERS):
        dice.shuffle(order)
        for first in range(count):  # everybody is at every place equally often: that is most of what there is to miss
            turned = order[first:] + order[:first]
            for way in (turned, turned[::-1]):
                before = sum_linear = sum_steps = 0.0
                for player in way:
                    sum_linear += linear[player]
                    sum_steps += steps[player]
                    after = busy(sum_linear, sum_steps)
                    found[player] += after - before
                    before = after
    return [value / (2 * ORDERS * count) for value in found]
