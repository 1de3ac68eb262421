"""Whose place a planned request takes, and which workers it may then go to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.admission import admit, admit_at_once
from gateway.errors import GatewayError, QuotaExhausted, RateLimited
from gateway.protocol.endpoints import ENDPOINTS
from gateway.protocol.request import read_request
from gateway.routing.types import Plan, Step
from gateway.table import Budget, Candidate, Hedge, Key, Limits, Price, Tenant
from gateway.tenancy.limiter import MemoryLimiter
from gateway.tenancy.limits import UNLIMITED, Lease
from gateway.tenancy.reservation import Lengths
from tests.unit.gateway.routing.tables import model, names, route, table, view

PRICE = Price(0, 0, 1_000_000)  # a nano-USD for each token of output
ONE = Limits(rpm=1)


class Desk:
    """A gateway's admission of one tenant's requests, planned for the workers named, each of the model before `-`."""

    def __init__(
        self,
        *,
        shared: Mapping[str, Limits] | None = None,
        keys: Limits | None = None,
        at_once: bool = True,
        **tenant: Any,
    ) -> None:
        written: dict[str, Any] = {"limits": Limits(), "budget": None, "weight": 1.0, "tier": "standard", **tenant}
        self.limiter = MemoryLimiter(lambda *_: None)
        self.at_once = at_once
        self.key = Key("k1", b"digest", Tenant("acme", None, **written), keys or Limits())
        common = {
            name: Key(name, name.encode(), Tenant(f"model:{name}", None, limits, None, 1.0, "standard"))
            for name, limits in (shared or {}).items()
        }
        self.table = replace(
            table(model("a", "v", context=100), model("b", "v", context=400), model("c", "v")), model_keys=common
        )

    def asks(self, *workers: str, hedge: Hedge | None = None) -> tuple[list[str], Lease]:
        request = read_request(
            ENDPOINTS["/v1/chat/completions"], b"application/json", orjson.dumps({"model": "auto", "messages": []})
        )
        steps = tuple(
            Step(view(name, f"{name[0]}@v", price=PRICE, gpu=None), Candidate(name[0], "v"), name[0], 0.0, 0.0, 0.0)
            for name in workers
        )
        plan = Plan(route("auto", Candidate("a", None), hedge=hedge), "", steps, ())
        asked = self.limiter, Lengths(), self.table, request, self.key, plan
        lease = admit_at_once(*asked) if self.at_once else None
        if lease is None:
            plan, lease = asyncio.run(admit(*asked))
        return names(plan.steps), lease

    def refusal(self, *workers: str) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            self.asks(*workers)
        return caught.value


def test_without_limits_of_models_the_plan_stays_as_it_is() -> None:
    asked, lease = Desk().asks("a-0", "b-0", "a-1")
    assert asked == ["a-0", "b-0", "a-1"]
    assert lease is UNLIMITED


@pytest.mark.parametrize("workers", [("a-0",), ("b-0", "a-0"), ("c-0", "b-0", "a-1")])
@pytest.mark.parametrize(
    "tenant",
    [
        {},
        {"keys": Limits(rpm=3)},
        {"limits": Limits(rpm=2, tpm=1_000, concurrency=3)},
        {"budget": Budget(700, "month", "reject"), "limits": Limits(concurrency=9)},
        {"budget": Budget(700, "month", "warn")},
    ],
)
def test_at_once_it_comes_to_what_it_comes_to_otherwise(tenant: dict[str, Any], workers: tuple[str, ...]) -> None:
    came_to: list[list[object]] = []
    for at_once in (True, False):
        desk, results = Desk(at_once=at_once, **tenant), list[object]()
        for _ in range(5):
            try:
                asked, lease = desk.asks(*workers, hedge=Hedge(None, 1.0, 0.1))
                results.append((asked, len(lease.headers), type(lease), getattr(lease, "tokens", 0)))
                results.append(getattr(lease, "money", 0))
            except GatewayError as error:
                results.append((type(error), error.message))
        came_to.append(results)
    assert came_to[0] == came_to[1]


def test_a_full_model_leaves_the_request_to_the_others() -> None:
    desk = Desk(model_limits={"a": ONE})
    assert desk.asks("a-0", "b-0", "a-1", "c-0")[0] == ["a-0", "a-1", "b-0", "c-0"]
    assert desk.asks("a-0", "b-0", "a-1", "c-0")[0] == ["b-0", "c-0"]
    error = desk.refusal("a-0", "a-1")
    assert isinstance(error, RateLimited)
    assert "tenant `acme` for the model `a` on requests per min (RPM): Limit 1" in error.message


def test_of_models_with_limits_only_the_one_whose_place_is_taken_may_be_asked() -> None:
    desk = Desk(model_limits={"a": ONE, "b": Limits(rpm=2)})
    assert desk.asks("a-0", "b-0", "c-0")[0] == ["a-0", "c-0"]
    assert desk.asks("a-0", "b-0", "c-0")[0] == ["b-0", "c-0"]
    assert desk.asks("b-0", "a-0")[0] == ["b-0"]
    assert desk.asks("a-0", "b-0", "c-0")[0] == ["c-0"]
    assert "for the model `a`" in desk.refusal("a-0", "b-0").message  # the one it would have had first
    assert "for the model `b`" in desk.refusal("b-0", "a-0").message


def test_the_order_of_the_others_stays() -> None:
    desk = Desk(model_limits={"b": ONE})
    assert desk.asks("a-0", "b-0", "c-0", "a-1")[0] == ["a-0", "a-1", "c-0"]


def test_a_model_that_all_tenants_share_takes_nothing_of_the_tenant_where_it_is_full() -> None:
    desk = Desk(limits=Limits(rpm=3, concurrency=3), shared={"a": Limits(concurrency=1)})
    asked, lease = desk.asks("a-0", "b-0")
    assert asked == ["a-0", "b-0"]
    assert desk.asks("a-0", "b-0")[0] == ["b-0"]
    for _ in range(5):
        assert "`a`" in desk.refusal("a-0").message
    lease.settle(0, 0, 0.0)
    assert desk.asks("a-0")[0] == ["a-0"]
    assert "tenant `acme` on requests" in desk.refusal("a-0").message


def test_a_tenant_that_is_full_is_refused_whatever_the_model() -> None:
    desk = Desk(limits=ONE, model_limits={"a": Limits(rpm=9)})
    desk.asks("a-0", "b-0")
    error = desk.refusal("a-0", "b-0")
    assert "tenant `acme` on requests per min (RPM): Limit 1" in error.message


def test_the_narrower_of_a_key_and_its_tenant_is_named_and_told() -> None:
    desk = Desk(limits=Limits(rpm=100), keys=Limits(rpm=2))
    (first,), (second,) = (desk.asks("a-0")[1].headers for _ in range(2))
    assert first.startswith(b"x-ratelimit-limit-requests: 2\r\nx-ratelimit-remaining-requests: 1\r\n")
    assert second.startswith(b"x-ratelimit-limit-requests: 2\r\nx-ratelimit-remaining-requests: 0\r\n")
    assert "key `k1` of tenant `acme` on requests per min (RPM): Limit 2, Used 2" in desk.refusal("a-0").message
    wide = Desk(limits=Limits(rpm=2), keys=Limits(rpm=100))
    assert wide.asks("a-0")[1].headers[0].startswith(b"x-ratelimit-limit-requests: 2\r\n")


@pytest.mark.parametrize(
    ("workers", "hedge", "cost"),
    [
        (("a-0",), None, 100),
        (("a-0", "b-0"), None, 400),
        (("a-0", "b-0"), Hedge(None, 1.0, 0.1), 800),
    ],
)
def test_money_is_held_for_the_dearest_worker_of_the_plan_and_twice_with_a_hedge(
    workers: tuple[str, ...], hedge: Hedge | None, cost: int
) -> None:
    enough: Callable[[int], Desk] = lambda usd: Desk(budget=Budget(usd, "total", "reject"))  # noqa: E731
    _, lease = enough(cost).asks(*workers, hedge=hedge)
    assert lease.covers(cost)
    assert not lease.covers(cost + 1)
    with pytest.raises(QuotaExhausted):
        enough(cost - 1).asks(*workers, hedge=hedge)


def test_no_money_is_held_for_a_budget_that_only_warns() -> None:
    _, lease = Desk(budget=Budget(1, "total", "warn")).asks("a-0")
    assert not lease.covers(1)
