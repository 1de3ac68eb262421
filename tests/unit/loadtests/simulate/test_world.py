"""Whole runs: nothing is lost, the same seed gives the same, knowledge and faults do what they should."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from loadtests.simulate.__main__ import POLICIES
from loadtests.simulate.engine import Engine
from loadtests.simulate.figures import Figures
from loadtests.simulate.traffic import Mix, Request, conversations, requests_of
from loadtests.simulate.world import Ended, Fault, Site, World

CALLS = conversations(400, 1)
SITE = Site(engine=Engine(blocks=400))
ALIKE = Mix()
PROMPTS_ONLY = SITE._replace(engine=SITE.engine._replace(decode=False))


def run(policy: str, site: Site = SITE, mix: Mix = ALIKE, seed: int = 0, calls: Any = CALLS) -> list[Ended]:
    return World(site, requests_of(calls, mix, seed), POLICIES[policy], seed).run()


def figures(ended: Sequence[Ended], site: Site = SITE) -> Figures:
    return Figures.of(ended, site.workers)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "site",
    [
        SITE,
        PROMPTS_ONLY,
        SITE._replace(gateways=3, load="both", share=0.1),
        SITE._replace(gateways=2, load="own", poll=0.0),
        SITE._replace(faults=(Fault("dies", 0, 60.0), Fault("slower", 1, 30.0, 3.0)), load="both"),
    ],
    ids=["plain", "prompts only", "sharing", "alone", "faults"],
)
def test_every_request_ends_once_and_every_token_is_computed_or_cached(policy: str, site: Site) -> None:
    world = World(site._replace(adapters=3), requests_of(CALLS, Mix(adapters=3), 0), POLICIES[policy], 0)
    ended = world.run()
    assert sorted(one.request.number for one in ended) == list(range(len(CALLS)))
    outcomes = Counter(one.outcome for one in ended)
    assert set(outcomes) <= {"done", "broken"}
    done = [one for one in ended if one.outcome == "done"]
    assert all(0 < one.first <= one.end for one in done)
    assert all(one.first == one.end for one in done) or site.engine.decode
    if not site.faults:
        assert outcomes == {"done": len(CALLS)}
        computed = sum(one.request.prompt - one.cached for one in ended)
        assert sum(worker.prefilled for worker in world.workers) == pytest.approx(computed)
        assert sum(worker.decoded for worker in world.workers) == sum(one.request.output for one in ended)
    for worker in world.workers:
        assert (worker.running, len(worker.waiting), worker.cache.in_use) == (0, 0, 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_seed_is_a_run_and_another_seed_is_another(policy: str) -> None:
    site = SITE._replace(gateways=2, load="both", share=0.1, believed=2.0)
    assert repr(run(policy, site)) == repr(run(policy, site))
    assert repr(run(policy, site)) != repr(run(policy, site, seed=1))


def test_the_time_to_a_first_token_is_what_is_before_it_and_its_own_prefill() -> None:
    site = Site(workers=1, engine=Engine(prefill=1_000.0, decode=False))
    requests = [Request(0, 0.0, 1_000, 1, ()), Request(1, 0.5, 500, 1, ()), Request(2, 9.0, 100, 1, ())]
    ended = World(site, requests, POLICIES["random"], 0).run()
    assert [one.first for one in ended] == pytest.approx([1.0, 1.0, 0.1])


def test_two_workers_are_shared_by_what_is_pending_there() -> None:
    site = Site(workers=2, engine=Engine(prefill=1_000.0, decode=False))
    requests = [Request(0, 0.0, 5_000, 1, ()), *(Request(n, 0.1 * n, 100, 1, ()) for n in range(1, 9))]
    ended = World(site, requests, POLICIES["least-pending"], 0).run()
    assert Counter(one.worker for one in ended).most_common() == [(ended[0].worker, 8), (ended[-1].worker, 1)]


def test_what_dies_before_its_first_token_is_answered_elsewhere_and_waits_from_its_arrival() -> None:
    site = Site(workers=2, engine=Engine(prefill=1_000.0), faults=(Fault("dies", 0, 1.0), Fault("slower", 1, 1.0, 2.0)))
    requests = [Request(0, 0.0, 1_500, 1, ()), Request(1, 0.0, 1_500, 1, ())]
    ended = World(site, requests, POLICIES["round-robin"], 0).run()
    assert [(one.request.number, one.outcome, one.worker, one.attempts) for one in ended] == [
        (1, "done", 1, 1),
        (0, "done", 1, 2),
    ]
    assert [one.first for one in ended] == pytest.approx([2.0, 5.0])


def test_what_dies_after_its_first_token_is_broken() -> None:
    site = Site(workers=2, engine=Engine(prefill=1_000.0), faults=(Fault("dies", 0, 2.0),))
    [ended] = World(site, [Request(0, 0.0, 1_000, 1_000, ())], POLICIES["round-robin"], 0).run()
    assert (ended.outcome, ended.first, ended.attempts) == ("broken", pytest.approx(1.0), 1)
    assert math.isnan(ended.end)


def test_no_policy_sends_to_a_dead_worker_for_long() -> None:
    site = PROMPTS_ONLY._replace(load="both", faults=(Fault("dies", 3, 50.0),))
    for policy in POLICIES:
        ended = run(policy, site)
        assert {one.outcome for one in ended} == {"done"}
        assert not [one for one in ended if one.worker == 3 and one.request.at > 50.0]
        assert sum(one.attempts > 1 for one in ended) < 20, policy


def test_a_request_that_fits_nowhere_is_said_to() -> None:
    site = Site(workers=2, engine=Engine(blocks=2))
    ended = World(site, [Request(0, 0.0, 5_000, 10, ())], POLICIES["random"], 0).run()
    assert [one.outcome for one in ended] == ["too_large"]
    assert figures(ended).unanswered == 1


def test_polls_that_are_old_cost_time_and_own_dispatches_give_it_back() -> None:
    calls = [replace(call, blocks=(n,)) for n, call in enumerate(conversations(1_500, 1, rate=1.2))]
    site = PROMPTS_ONLY._replace(poll=5.0)
    means = {
        load: figures(run("least-pending", site._replace(load=load), calls=calls)).ttft_mean
        for load in ("live", "poll", "both")
    }
    assert means["poll"] > 1.3 * means["live"]
    assert means["both"] < 1.1 * means["live"]


def test_gateways_that_share_are_nearly_one() -> None:
    one = figures(run("seconds-weighted", PROMPTS_ONLY._replace(load="own", poll=0.0))).ttft_mean
    alone = PROMPTS_ONLY._replace(load="own", poll=0.0, gateways=4)
    apart = figures(run("seconds-weighted", alone)).ttft_mean
    sharing = figures(run("seconds-weighted", alone._replace(share=0.05))).ttft_mean
    assert sharing < 1.15 * one
    assert apart > 1.3 * one


def test_an_adapter_costs_its_load() -> None:
    site = SITE._replace(engine=SITE.engine._replace(adapters=1, adapter_load=1.0))
    world = World(site, requests_of(CALLS, Mix(adapters=6), 0), POLICIES["random"], 0)
    slow = figures(world.run())
    assert sum(worker.loads for worker in world.workers) > 100
    many = site._replace(engine=site.engine._replace(adapters=6))
    assert slow.ttft_mean > 1.1 * figures(run("random", many, Mix(adapters=6))).ttft_mean
