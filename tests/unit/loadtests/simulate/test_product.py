"""The gateway's own router in the simulation: driven as a process drives it, and well ahead of another."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.fleet.sharing import TURN_SECONDS
from loadtests.simulate.__main__ import POLICIES
from loadtests.simulate.engine import Engine, Job
from loadtests.simulate.figures import Figures
from loadtests.simulate.product import Product
from loadtests.simulate.sight import Delta, Reading
from loadtests.simulate.traffic import Mix, Request, conversations, requests_of
from loadtests.simulate.world import Ended, Fault, Site, World

PROMPTS_ONLY = Engine(decode=False)


def request(number: int, *blocks: int, prompt: int = 2_048, tenant: str = "t0", adapter: str = "") -> Request:
    return Request(number, 0.0, prompt, 10, blocks, tenant, adapter)


def sent(router: Product, one: Request, now: float) -> int:
    worker = router.choose(one, (), now)
    assert worker is not None
    router.dispatched(worker, one, now)
    return worker


def ended(router: Product, worker: int, one: Request, now: float) -> None:
    job = Job(one)
    router.first(worker, job, now)
    router.ended(worker, job, now)


def test_it_goes_where_nothing_is_pending_and_then_where_the_prompt_is_known() -> None:
    router = Product(Site(workers=3))
    prompts = [request(n, *range(10 * n, 10 * n + 4)) for n in range(3)]
    where = [sent(router, one, 0.0) for one in prompts]
    assert sorted(where) == [0, 1, 2]
    for worker, one in zip(where, prompts, strict=True):
        ended(router, worker, one, 1.0)
    again = [router.choose(one, (), 2.0) for one in (prompts[1], prompts[2], prompts[0])]
    assert again == [where[1], where[2], where[0]]


def test_prefixes_of_tenants_and_adapters_are_apart() -> None:
    router = Product(Site(workers=2, adapters=1))
    one = request(0, 1, 2, 3, 4)
    ended(router, sent(router, one, 0.0), one, 1.0)
    for number, other in enumerate((one._replace(tenant="t1"), one._replace(adapter="a0")), 1):
        asked = other._replace(number=number)
        worker = router.choose(asked, (), 2.0)
        assert worker is not None
        assert router.dispatched(worker, asked, 2.0) == 2_048


def test_a_worker_that_was_tried_is_not_chosen_again() -> None:
    router = Product(Site(workers=2))
    first = router.choose(request(0), (), 0.0)
    assert first is not None
    assert router.choose(request(0), (first,), 0.0) == 1 - first
    assert router.choose(request(0), (0, 1), 0.0) is None


def test_what_polls_and_other_gateways_say_counts() -> None:
    router = Product(Site(workers=2))
    router.polled(0, Reading(1.0, False, 0, 0, 0.0, 0.0))
    assert router.choose(request(0), (), 1.0) == 1
    router.polled(0, Reading(2.0, True, 0, 0, 0.0, 0.0))
    router.heard(Delta("dispatched", 2.0, 0, request(5, 1, 2, 3, 4), 90_000), 2.1)
    others = [request(number) for number in (6, 7)]
    for other in others:  # more requests there, and less to do
        router.heard(Delta("dispatched", 2.0, 1, other, 100), 2.1)
    assert router.choose(request(1), (), 2.1) == 1
    router.heard(Delta("first", 3.0, 0, request(5, 1, 2, 3, 4), 90_000), 3.1)
    router.heard(Delta("ended", 3.0, 0, request(5, 1, 2, 3, 4)), 3.1)
    for other in others:
        router.heard(Delta("ended", 3.0, 1, other, 100), 3.1)
    assert router.choose(request(2, 1, 2, 3, 4), (), 3.2) == 0


def test_it_is_well_ahead_of_llm_d() -> None:
    """On conversations made up here, through the product's code alone."""
    site = Site(engine=PROMPTS_ONLY)
    theirs, ours = (
        Figures.mean([Figures.of(run(name, site, seed), site.workers) for seed in (7, 8)])
        for name in ("llm-d", "tollgate")
    )
    assert ours.ttft_mean < 0.93 * theirs.ttft_mean
    assert ours.ttft_p90 < 0.93 * theirs.ttft_p90


@pytest.mark.parametrize(
    "wrong",
    [{"believed": 2.0}, {"faults": (Fault("slower", 0, 100.0, 3.0),)}, {"faults": (Fault("dies", 0, 300.0),)}],
    ids=["rates wrong", "one slower", "one dies"],
)
def test_it_stays_ahead_when_things_go_wrong(wrong: dict[str, Any]) -> None:
    """Both know what they have dispatched since the last poll."""
    site = Site(engine=PROMPTS_ONLY, load="both")._replace(**wrong)
    theirs, ours = (run(name, site, 7) for name in ("llm-d", "tollgate"))
    assert {one.outcome for one in ours} == {"done"}
    assert Figures.of(ours, site.workers).ttft_mean < Figures.of(theirs, site.workers).ttft_mean


def run(policy: str, site: Site, seed: int) -> list[Ended]:
    requests = requests_of(conversations(3_000, seed, rate=3.0), Mix(), seed)
    return World(site, requests, POLICIES[policy], seed).run()


def test_four_gateways_that_tell_each_other_are_nearly_one() -> None:
    """What one knows of the others is as old as twice what `gateway.fleet.sharing` lets it become."""
    one = Site(engine=PROMPTS_ONLY, load="both")
    four = one._replace(gateways=4, share=2 * TURN_SECONDS)
    alone = four._replace(share=None)
    means = [Figures.of(run("tollgate", site, 7), site.workers).ttft_mean for site in (one, four, alone)]
    assert means[1] <= 1.10 * means[0]
    assert means[2] > 1.10 * means[1]
