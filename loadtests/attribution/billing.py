"""The bill of a run, from what a gateway sees of it and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.attribution.fit import Fit, Observations
from gateway.attribution.load import FULL, Entry
from gateway.attribution.model import PRIOR
from gateway.attribution.split import IDLE, Policy, cost_until, split
from gateway.attribution.window import share_out
from loadtests.attribution.engine import Look, Run, Seen

HOURLY = 2_990_000_003  # nano-USD: no window's cost is a whole number of them
_NS = 1_000_000_000


class Bill(NamedTuple):
    """Nano-USD by tenant, idle time not among them; `residue` is what all shares are off by from rate times time."""

    nanousd: list[int]
    residue: int
    fit: Fit | None  # the last one
    observations: Observations


def bill(
    run: Run, tenants: int, window: float = 60.0, streamed: bool = True, known: Observations | None = None
) -> Bill:
    """As the settler makes it: window by window, the coefficients found on the way. Not `streamed`: every answer came
    whole, and nobody saw its first token. `known` is what was seen before."""
    observations = known or Observations()
    fit = observations.fit()
    c = PRIOR if fit is None else fit.coefficients
    found, idle = [0] * tenants, 0
    seen = sorted(run.seen, key=lambda one: one.opened)
    end = max(one.end for one in seen)
    start, at, there = 0.0, 0, list[Seen]()
    while start < end:
        until = start + window
        there = [one for one in there if one.end > start]
        while at < len(seen) and seen[at].opened < until:
            there.append(seen[at])
            at += 1
        entries = [_entry(one, streamed) for one in there]
        users, busy = share_out(entries, c, start, until, _crowded(run.looks, start, until), observations)
        cost = cost_until(HOURLY, round(until * _NS)) - cost_until(HOURLY, round(start * _NS))
        for key, share in split(cost, round(busy * _NS), round(window * _NS), users, Policy()).items():
            if key.tenant == IDLE:
                idle += share
            else:
                found[int(key.tenant)] += share
        fit = observations.fit() or fit
        c = c if fit is None else fit.coefficients
        start = until
    return Bill(found, sum(found) + idle - cost_until(HOURLY, round(start * _NS)), fit, observations)


def _entry(one: Seen, streamed: bool) -> Entry:
    request = one.request
    ttft = one.first - one.opened if streamed else None
    tenant, took = str(request.tenant), one.end - one.opened
    return Entry(request.tenant + 1, 0, tenant, one.opened, ttft, took, request.prompt, one.cached, request.output)


def _crowded(looks: Sequence[Look], start: float, end: float) -> float:
    busy = [look for look in looks if start <= look.at < end and look.running + look.waiting]
    return sum(look.waiting > 0 or look.kv_usage > FULL for look in busy) / len(busy) if busy else 0.0


def by_tokens(seen: Sequence[Seen], tenants: int) -> list[float]:
    """What counting tokens comes to: those of the prompt, and those of the answer twice."""
    found = [0.0] * tenants
    for one in seen:
        found[one.request.tenant] += one.request.prompt + 2 * one.request.output
    return found
