"""When requests are meant to start, in seconds from the beginning. An open loop keeps to it whatever the answers do."""

from __future__ import annotations

import random


def uniform(rate: float, seconds: float) -> list[float]:
    """Evenly spaced: the gentlest load of that rate."""
    return [number / rate for number in range(int(rate * seconds))]


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Independent arrivals, as many callers make them: bursts belong to it."""
    dice = random.Random(seed)
    times: list[float] = []
    now = dice.expovariate(rate)
    while now < seconds:
        times.append(now)
        now += dice.expovariate(rate)
    return times
