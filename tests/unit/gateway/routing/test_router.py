"""Plans: who is tried, in which order, and why nobody else is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AdapterNotLoaded, BadRequest, Forbidden, GatewayError, Overloaded
from gateway.routing.account import Place
from gateway.routing.breaker import FAILURES_TO_TRIP, Breaker
from gateway.routing.outliers import Standing
from gateway.routing.prefix import PrefixIndex, Prompt
from gateway.routing.router import FEWEST_OF_A_MODEL, MOST_STEPS, Router, Views
from gateway.routing.types import Ask, Dropped, Plan, Preferences, WorkerView
from gateway.table import Candidate, Model, Objective, Price, Route, SubjectTo
from tests.unit.gateway.routing.tables import (
    USD,
    ask,
    fleet,
    model,
    names,
    route,
    table,
    tenant,
    version,
    view,
    worker,
)

CHAT = model("chat", version("a", "fp8", 0.9), version("b", "int4", 0.8), adapters=["sql"])
BIG = model("big", version("x", "none", 1.0))

NOW = 100.0


def plan(
    request: Ask,
    views: Views,
    *,
    models: tuple[Model, ...] = (CHAT, BIG),
    routes: tuple[Route, ...] = (),
    permits: Any = lambda _: True,
    draw: float = 0.0,
) -> Plan:
    router = Router(table(*models, routes=routes))
    resolution = router.names.resolve(request)
    named = (*resolution.route.candidates, *resolution.route.fallback)
    forbidden = [candidate for candidate in named if not permits(candidate)]
    return router.plan(request, resolution, views, forbidden, draw=draw, now=NOW)


def refused(request: Ask, views: Views, **how: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        plan(request, views, **how)
    return caught.value


# Order


def test_the_least_busy_worker_comes_first_and_the_others_after_it() -> None:
    views = fleet(view("w1", pending_tokens=900), view("w2", pending_tokens=100), view("w3", pending_tokens=500))
    made = plan(ask(), views)
    assert names(made.steps) == ["w2", "w3", "w1"]
    assert made.reason == "named by the request, least latency"
    assert made.dropped == ()


def test_of_workers_as_good_as_the_best_the_one_comes_first_that_was_sent_to_longest_ago() -> None:
    near = view("w2", pending_tokens=50, dispatched_at=1.0)  # 9 ms behind
    views = fleet(view("w1", dispatched_at=2.0), near, view("w3", pending_tokens=900, dispatched_at=0.0))
    assert names(plan(ask(), views).steps) == ["w2", "w1", "w3"]


def test_equal_workers_keep_their_order() -> None:
    assert names(plan(ask(), fleet(view("w1"), view("w2"), view("w3"))).steps) == ["w1", "w2", "w3"]


def test_a_single_worker_is_a_plan() -> None:
    (step,) = plan(ask(), fleet(view("w1", seconds_per_prompt_token=0.01, seconds_per_output_token=0.1))).steps
    assert step.view.worker.name == "w1"
    assert (step.target, step.engine_model) == (Candidate("chat", "a"), "/models/chat@a")
    assert (step.ttft_seconds, step.seconds) == (1.0, pytest.approx(6.0))
    assert step.nanousd == pytest.approx(6.0 * USD)


@pytest.mark.parametrize(
    ("objective", "order"),
    [
        ("latency", ["fast", "cheap", "good"]),
        ("cost", ["cheap", "good", "fast"]),
        ("quality", ["good", "fast", "cheap"]),
    ],
)
@pytest.mark.parametrize("by_request", [True, False])
def test_the_objective_decides_the_order(objective: Objective, order: list[str], by_request: bool) -> None:
    views = fleet(
        view("fast", "chat@a", seconds_per_output_token=0.01, price=Price(9 * USD, 0, 9 * USD)),
        view("cheap", "chat@b", seconds_per_output_token=0.1, price=Price(USD, 0, USD)),
        view("good", "big@x", seconds_per_output_token=0.2, price=Price(3 * USD, 0, 3 * USD)),
    )
    minimize: Objective = ("cost" if objective == "latency" else "latency") if by_request else objective
    auto = route("auto", Candidate("chat", None), Candidate("big", None), minimize=minimize)
    wishes = Preferences(optimize=objective if by_request else None)
    made = plan(ask("auto", preferences=wishes), views, routes=(auto,))
    assert names(made.steps) == order
    assert made.reason == f"route auto, least {objective}"


def test_fallbacks_come_last_however_good_they_are() -> None:
    auto = route("auto", Candidate("chat", "b"), fallback=(Candidate("big", None),))
    views = fleet(view("slow", "chat@b", pending_tokens=10**6), view("best", "big@x"))
    assert names(plan(ask("auto"), views, routes=(auto,)).steps) == ["slow", "best"]


def test_each_worker_is_tried_once_at_its_best_place() -> None:
    auto = route("auto", Candidate("chat", None), Candidate("chat", "b"), fallback=(Candidate("chat", "a"),))
    views = fleet(view("w1", "chat@a"), view("w2", "chat@b", pending_tokens=50))
    assert names(plan(ask("auto"), views, routes=(auto,)).steps) == ["w1", "w2"]


# Prefixes

TEXT = {"prompt": "once upon a time " * 500}  # eight blocks


def caching(*names: str, **state: Any) -> list[WorkerView]:
    index = PrefixIndex()
    return [view(name, prefixes=index.enrol(), **state) for name in names]


def sent(to: WorkerView, **more: Any) -> None:
    """A prompt has been answered there."""
    request = ask(prompt_tokens=2200, prompt=Prompt(TEXT), **more)
    step = plan(request, fleet(to, view("other", pending_tokens=10**6))).steps[0]
    place = Place(step, 2200, NOW)
    place.first_token(NOW)
    place.leave(NOW, None)


def test_a_prompt_goes_where_its_beginning_is_cached() -> None:
    workers = caching("w1", "w2", "w3", seconds_per_prompt_token=0.001)
    sent(workers[1])
    made = plan(ask(prompt_tokens=2200, prompt=Prompt(TEXT)), fleet(*workers))
    assert names(made.steps) == ["w2", "w1", "w3"]
    assert [step.cached_tokens for step in made.steps] == [8 * 256, 0, 0]
    assert made.steps[0].ttft_seconds < made.steps[1].ttft_seconds


def test_a_cached_prefix_is_not_worth_any_wait() -> None:
    workers = caching("w1", "w2")
    sent(workers[0])
    workers[0].pending_tokens = 100_000
    assert names(plan(ask(prompt_tokens=2200, prompt=Prompt(TEXT)), fleet(*workers)).steps) == ["w2", "w1"]


def test_a_cache_is_believed_as_far_as_it_has_kept_its_word() -> None:
    workers = caching("w1", "w2")
    sent(workers[1])
    workers[1].reuse = 0.25
    assert plan(ask(prompt_tokens=2200, prompt=Prompt(TEXT)), fleet(*workers)).steps[0].cached_tokens == 512


def test_a_prompt_is_never_cached_whole() -> None:
    workers = caching("w1", "w2")
    sent(workers[1])
    assert plan(ask(prompt_tokens=300, prompt=Prompt(TEXT)), fleet(*workers)).steps[0].cached_tokens == 299


@pytest.mark.parametrize("other", ["tenant", "version", "adapter"])
def test_what_engines_keep_apart_is_kept_apart(other: str) -> None:
    index = PrefixIndex()
    workers = [view(name, serves, adapters={"sql": "sql"}, prefixes=index.enrol()) for name, serves in SERVING]
    sent(workers[1])
    asked = "chat:sql" if other == "adapter" else "chat"
    request = ask(asked, prompt_tokens=2200, prompt=Prompt(TEXT), tenant=tenant("bob" if other == "tenant" else "ann"))
    if other == "version":
        workers[1].worker = worker("w2", "chat@b")
    assert {step.cached_tokens for step in plan(request, fleet(*workers)).steps} == {0}


SERVING = [("w1", "chat@a"), ("w2", "chat@a")]


def test_nothing_is_hashed_where_there_is_no_choice() -> None:
    unread = Prompt({"prompt": object()})  # cannot be
    (worker,) = caching("w1")
    (step,) = plan(ask(prompt_tokens=2200, prompt=unread), fleet(worker)).steps
    assert step.prompt is None


# Money


def test_time_that_is_worth_something_weighs_prices_too() -> None:
    views = fleet(
        view("fast", seconds_per_output_token=0.01, price=Price(9 * USD, 0, 9 * USD)),
        view("cheap", seconds_per_output_token=0.1, price=Price(USD, 0, USD)),
    )
    assert names(plan(ask(), views).steps) == ["fast", "cheap"]
    patient = replace(tenant(), value_of_time=0.0001 * USD)  # 4.5 s are worth less than 0.0012 USD
    assert names(plan(ask(tenant=patient), views).steps) == ["cheap", "fast"]
    hurried = replace(tenant(), value_of_time=0.001 * USD)
    assert names(plan(ask(tenant=hurried), views).steps) == ["fast", "cheap"]


def test_equal_workers_cost_the_same_however_fast_one_was_measured() -> None:
    auto = route("auto", Candidate("chat", None), minimize="cost")
    views = fleet(
        view("w1", seconds_per_prompt_token=0.001, pending_tokens=900),
        view("w2", seconds_per_prompt_token=0.0011),
    )
    assert names(plan(ask("auto"), views, routes=(auto,)).steps) == ["w2", "w1"]


# Many


def test_a_plan_names_the_best_of_many_workers() -> None:
    auto = route("auto", Candidate("big", None), Candidate("chat", None))
    crowd = [view(f"w{at}", pending_tokens=at) for at in range(100)]
    slow = [view(f"big{at}", "big@x", pending_tokens=10**6 + at) for at in range(100)]
    tried = names(plan(ask("auto"), fleet(*crowd, *slow), routes=(auto,)).steps)
    assert tried[:MOST_STEPS] == [f"w{at}" for at in range(MOST_STEPS)]
    assert tried[MOST_STEPS:] == [f"big{at}" for at in range(FEWEST_OF_A_MODEL)]


# Adapters


def test_an_adapter_goes_only_where_it_is_under_the_engines_name_for_it() -> None:
    views = fleet(view("without"), view("with", "chat@b", adapters={"sql": "/adapters/sql"}))
    made = plan(ask("chat:sql"), views)
    assert names(made.steps) == ["with"]
    assert made.steps[0].engine_model == "/adapters/sql"
    assert made.steps[0].target == Candidate("chat", "b", "sql")
    assert made.dropped == (Dropped("without", "chat@a:sql", "adapter_missing"),)


def test_an_adapter_that_no_worker_can_have_is_not_a_matter_of_time() -> None:
    with pytest.raises(AdapterNotLoaded, match="operator") as caught:
        plan(ask("chat:sql"), fleet(view("w1"), view("w2", "chat@b")))
    assert (caught.value.status, caught.value.code) == (503, "adapter_not_loaded")
    with pytest.raises(Overloaded):
        plan(ask("chat:sql"), fleet(view("w1"), view("w2", "chat@b", up=False)))


# Traffic


def split(**traffic: int) -> Model:
    return model("chat", *(version(name) for name in "abc"), traffic=traffic)


@pytest.mark.parametrize(
    ("draw", "order"),
    [(0.0, ["a", "b"]), (0.899, ["a", "b"]), (0.9, ["b", "a"]), (1.0 - 2**-53, ["b", "a"])],
)
def test_the_draw_picks_the_version_and_the_other_stands_by(draw: float, order: list[str]) -> None:
    views = fleet(view("a", "chat@a"), view("b", "chat@b"), view("c", "chat@c"))
    assert names(plan(ask(), views, models=(split(a=90, b=10, c=0),), draw=draw).steps) == order


def test_a_drawn_version_comes_first_even_when_it_is_slower() -> None:
    views = fleet(view("a", "chat@a", pending_tokens=10**6), view("a2", "chat@a"), view("b", "chat@b"))
    assert names(plan(ask(), views, models=(split(a=50, b=50),), draw=0.1).steps) == ["a2", "a", "b"]


def test_a_version_asked_for_by_name_is_outside_the_split() -> None:
    views = fleet(view("a", "chat@a"), view("c", "chat@c"))
    assert names(plan(ask("chat@c"), views, models=(split(a=100, c=0),)).steps) == ["c"]


def test_without_a_split_every_version_serves() -> None:
    views = fleet(view("a", "chat@a"), view("c", "chat@c", pending_tokens=1))
    assert names(plan(ask(), views, models=(split(),), draw=0.99).steps) == ["a", "c"]


def test_a_split_that_gives_nothing_to_anyone_serves_nobody() -> None:
    assert isinstance(refused(ask(), fleet(view("a", "chat@a")), models=(split(a=0),)), Overloaded)


def test_draws_divide_the_traffic_by_the_weights() -> None:
    views = fleet(*(view(name, f"chat@{name}") for name in "abc"))
    models = (split(a=70, b=25, c=5),)
    first = Counter(plan(ask(), views, models=models, draw=i / 1000).steps[0].view.worker.name for i in range(1000))
    assert first == {"a": 700, "b": 250, "c": 50}


# What a request or a route rules out


def test_the_terms_of_a_route_hold_for_its_candidates_and_not_for_its_fallbacks() -> None:
    auto = route(
        "auto", Candidate("chat", None), fallback=(Candidate("chat", "b"),), subject_to=SubjectTo(min_quality=0.85)
    )
    made = plan(ask("auto"), fleet(view("w1", "chat@a"), view("w2", "chat@b")), routes=(auto,))
    assert names(made.steps) == ["w1", "w2"]
    assert made.dropped == (Dropped("w2", "chat@b", "quality"),)


def test_what_the_request_rules_out_holds_for_fallbacks_too() -> None:
    auto = route("auto", Candidate("chat", None), fallback=(Candidate("big", None),))
    views = fleet(view("own", "chat@a"), view("hosted", "big@x", price=Price(90 * USD, 0, 90 * USD)))
    wishes = Preferences(only=frozenset({"own", "hosted"}), quantizations=frozenset({"fp8"}))
    made = plan(ask("auto", preferences=wishes), views, routes=(auto,))
    assert names(made.steps) == ["own"]
    assert made.dropped == (Dropped("hosted", "big@x", "quantization"),)


def test_a_tenant_is_kept_from_candidates_it_may_not_use() -> None:
    auto = route("auto", Candidate("big", None), Candidate("chat", "a"))
    views = fleet(view("w1", "big@x"), view("w2", "chat@a"))
    made = plan(ask("auto"), views, routes=(auto,), permits=lambda candidate: candidate.model == "chat")
    assert names(made.steps) == ["w2"]
    assert made.dropped == (Dropped("", "big", "not_allowed"),)


# Nowhere


def test_a_tenant_that_may_use_none_of_them_is_forbidden() -> None:
    error = refused(ask(), fleet(view()), permits=lambda _: False)
    assert isinstance(error, Forbidden)
    assert (error.status, error.param) == (403, "model")


@pytest.mark.parametrize(
    ("views", "request_", "kind", "code"),
    [
        ([], ask(), Overloaded, "overloaded"),
        ([view(up=False)], ask(), Overloaded, "overloaded"),
        ([view(draining=True)], ask(), Overloaded, "overloaded"),
        ([view()], ask("chat:sql"), AdapterNotLoaded, "adapter_not_loaded"),
        ([view()], ask(task="embed"), BadRequest, "invalid_request"),
        ([view()], ask(prompt_tokens=10**6), BadRequest, "context_length_exceeded"),
        ([view(), view(up=False)], ask(prompt_tokens=10**6), Overloaded, "overloaded"),
        ([view()], ask(preferences=Preferences(only=frozenset({"x"}))), BadRequest, "invalid_request"),
    ],
)
def test_nowhere_to_go_says_whether_waiting_helps(
    views: list[WorkerView], request_: Ask, kind: type[GatewayError], code: str
) -> None:
    error = refused(request_, fleet(*views))
    assert type(error) is kind
    assert error.code == code
    assert error.retryable == (kind is Overloaded)
    assert (error.retry_after is not None) == (kind is Overloaded)


def test_terms_that_exclude_all_are_named_but_not_what_the_tenant_may_not_see() -> None:
    auto = route("auto", Candidate("chat", None), Candidate("big", None))
    wishes = Preferences(only=frozenset({"other"}))
    views = fleet(view("w1", "chat@a"), view("w2", "big@x"))
    error = refused(
        ask("auto", preferences=wishes), views, routes=(auto,), permits=lambda candidate: candidate.model == "chat"
    )
    assert "chat@a (not_in_only)" in error.message
    assert "big" not in error.message
    assert error.param == "routing"


# Always

states = st.builds(
    lambda name, serves, **state: view(name, serves, **state),
    st.sampled_from(["w1", "w2", "w3", "w4"]),
    st.sampled_from(["chat@a", "chat@b", "big@x"]),
    up=st.booleans(),
    draining=st.booleans(),
    adapters=st.sampled_from([{}, {"sql": "s"}]),
    pending_tokens=st.integers(0, 10**5),
    inflight=st.integers(0, 50),
    seconds_per_prompt_token=st.none() | st.floats(1e-6, 1),
    seconds_per_output_token=st.none() | st.floats(1e-6, 1),
)
candidates = st.sampled_from(
    [Candidate("chat", None), Candidate("chat", "a"), Candidate("chat", None, "sql"), Candidate("big", None)]
)


def may_take(worker: WorkerView, target: Candidate) -> bool:
    return (
        worker.up
        and not worker.draining
        and worker.worker.model == target.model
        and target.version in (None, worker.worker.version)
        and (target.adapter is None or target.adapter in worker.adapters)
    )


@given(
    st.lists(states, max_size=6, unique_by=lambda each: each.worker.name),
    st.lists(candidates, min_size=1, max_size=4),
    st.lists(candidates, max_size=2),
    st.sampled_from(["latency", "cost", "quality"]),
    st.floats(0, 1, exclude_max=True),
    st.booleans(),
)
def test_every_step_is_a_live_worker_that_serves_its_target(
    views: list[WorkerView],
    to: list[Candidate],
    fallback: list[Candidate],
    objective: Objective,
    draw: float,
    is_split: bool,
) -> None:
    chat = model("chat", version("a"), version("b"), traffic={"a": 50, "b": 50} if is_split else None, adapters=["sql"])
    auto = route("auto", *to, fallback=tuple(fallback), minimize=objective)
    try:
        made = plan(ask("auto"), fleet(*views), models=(chat, BIG), routes=(auto,), draw=draw)
    except (Overloaded, AdapterNotLoaded):
        assert not any(may_take(each, target) for each in views for target in (*to, *fallback))
        return
    tried = names(made.steps)
    able = {each.worker.name for each in views if any(may_take(each, target) for target in (*to, *fallback))}
    assert sorted(tried) == sorted(able)
    for step in made.steps:
        assert step.view.up
        assert not step.view.draining
        assert (step.target.model, step.target.version) == (step.view.worker.model, step.view.worker.version)
        assert step.target.adapter is None or step.engine_model == step.view.adapters[step.target.adapter]
        assert step.seconds >= step.ttft_seconds > 0
        assert step.nanousd >= 0
    assert all(dropped.reason in ("down", "draining", "adapter_missing") for dropped in made.dropped)


# Workers that fail


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_TRIP):
        breaker.failed(NOW, trial=False)
    return breaker


def test_a_worker_whose_breaker_is_open_is_left_out_while_there_is_another() -> None:
    views = fleet(view("w1", base_name="chat", breakers={"chat": opened()}), view("w2", pending_tokens=5000))
    made = plan(ask("chat"), views)
    assert names(made.steps) == ["w2"]
    assert [(each.worker, each.reason) for each in made.dropped] == [("w1", "breaker_open")]


def test_a_breaker_is_of_one_model_on_one_worker() -> None:
    views = fleet(view("w1", adapters={"sql": "sql"}, breakers={"sql": opened()}))
    assert names(plan(ask("chat"), views).steps) == ["w1"]
    beside = fleet(
        view("w1", adapters={"sql": "sql"}, breakers={"sql": opened()}),
        view("w2", adapters={"sql": "sql"}, pending_tokens=5000),
    )
    assert names(plan(ask("chat:sql"), beside).steps) == ["w2"]


def test_an_ejected_worker_is_left_out_until_its_time_is_over() -> None:
    views = fleet(view("w1", standing=Standing(ejected_until=NOW + 1)), view("w2", pending_tokens=5000))
    made = plan(ask("chat"), views)
    assert names(made.steps) == ["w2"]
    assert [(each.worker, each.reason) for each in made.dropped] == [("w1", "ejected")]
    over = fleet(view("w1", standing=Standing(ejected_until=NOW)), view("w2", pending_tokens=5000))
    assert names(plan(ask("chat"), over).steps) == ["w1", "w2"]


def test_the_last_ones_are_asked_whatever_speaks_against_them() -> None:
    views = fleet(
        view("w1", base_name="chat", breakers={"chat": opened()}, pending_tokens=10),
        view("w2", standing=Standing(ejected_until=NOW + 9)),
        view("w3", up=False),
    )
    made = plan(ask("chat"), views)
    assert names(made.steps) == ["w2", "w1"]
    assert [(each.worker, each.reason) for each in made.dropped] == [("w3", "down")]


def test_a_fallback_in_good_standing_goes_before_a_candidate_in_bad() -> None:
    made = plan(
        ask("auto"),
        fleet(view("w1", base_name="chat", breakers={"chat": opened()}), view("big", "big@x")),
        routes=(route("auto", Candidate("chat", None), fallback=(Candidate("big", None),)),),
    )
    assert names(made.steps) == ["big"]
