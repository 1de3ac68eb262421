"""The simulated engine, the Shapley value, and a short form of the proof."""

from __future__ import annotations

from random import Random

import pytest

from loadtests.attribution import engine as simulated
from loadtests.attribution.__main__ import errors, quantile
from loadtests.attribution.engine import Engine, Request, run
from loadtests.attribution.families import MIXED, PLAIN, SMALL_CACHE, Case, requests_of
from loadtests.attribution.shapley import shapley


def test_one_request_takes_what_the_step_time_says():
    engine = Engine(budget=2048)
    [seen] = run(engine, [Request(1.0, 0, 3_000, 11)]).seen
    prompt = 2 * engine.fixed + engine.new * 3_000 + engine.attention * 3_000 * 1_500
    assert seen.first == pytest.approx(1.0 + prompt)
    decode = 10 * (engine.fixed + engine.out) + engine.context * sum(range(3_000, 3_010))
    assert seen.end == pytest.approx(seen.first + decode)


@pytest.mark.parametrize("engine", [Engine(), SMALL_CACHE, Engine(slots=5)])
def test_stretches_computed_in_one_go_are_those_of_single_steps(engine, monkeypatch):
    requests = requests_of(MIXED, 60.0, 0.8, Random(3))
    quick = run(engine, requests, 5.0)
    monkeypatch.setattr(simulated._State, "_free_steps", lambda self: 1)
    slow = run(engine, requests, 5.0)
    assert quick.busy == pytest.approx(slow.busy)
    assert [one.request for one in quick.seen] == [one.request for one in slow.seen]
    assert [one.end for one in quick.seen] == pytest.approx([one.end for one in slow.seen])


def test_a_common_beginning_is_computed_once():
    engine = Engine()
    same = [Request(10.0 * i, 0, 2_100, 5, "p", 2_000) for i in range(3)]
    assert [one.cached for one in run(engine, same).seen] == [0, 2_000, 2_000]


def test_a_full_cache_makes_wait_and_preempts():
    engine = Engine(kv=1_000)
    done = run(engine, [Request(0.0, 0, 300, 400) for _ in range(6)], 0.5)
    assert len(done.seen) == 6
    assert done.preempted
    assert max(look.waiting for look in done.looks) > 0


def test_values_sum_and_samples_come_near():
    requests = requests_of(PLAIN[:4], 60.0, 0.5, Random(1))
    exact = shapley(Engine(), requests, 4, 0, 1)
    sampled = shapley(Engine(), requests, 4, 50, 1)
    assert sum(exact.seconds) == pytest.approx(run(Engine(), requests).busy)
    assert sum(sampled.seconds) == pytest.approx(sum(exact.seconds))
    for value, near, error in zip(exact.seconds, sampled.seconds, sampled.error, strict=True):
        assert abs(value - near) <= 5 * error + 1e-9


@pytest.mark.parametrize(("load", "seconds"), [(0.05, 1_200.0), (0.3, 600.0), (1.0, 200.0)])
def test_bills_are_near_what_tenants_are_worth(load, seconds):
    """Two hours of each in `python -m loadtests.attribution`; here five tenants for minutes."""
    shapes = (*PLAIN[:4], MIXED[5])
    found = errors(Case("short", Engine(), requests_of(shapes, seconds, load, Random(1)), 5), 0, 1)
    assert found.residue == 0
    assert max(found.bill) <= 0.10
    assert quantile(found.bill, 0.5) <= 0.02
    assert max(found.tokens) >= 4 * max(found.bill)
    assert found.r2 > 0.99
