"""Names: models, versions, adapters, aliases and the names only routes know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, NotFound
from gateway.routing.names import Names, parse
from gateway.routing.router import spell
from gateway.table import Candidate, Match
from tests.unit.gateway.routing.tables import ask, model, route, table, tenant

CHAT = model("chat", "a", "b", adapters=["sql", "law"])
BIG = model("big", "x")
MODELS = {"chat": CHAT, "big": BIG}


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("chat", Candidate("chat", None)),
        ("chat@a", Candidate("chat", "a")),
        ("chat:sql", Candidate("chat", None, "sql")),
        ("chat@b:law", Candidate("chat", "b", "law")),
        ("", None),
        ("other", None),
        ("chat@", None),
        ("chat:", None),
        ("chat@:sql", None),
        ("chat@a:", None),
        ("chat@c", None),
        ("chat:other", None),
        ("chat@a@b", None),
        ("chat:sql:law", None),
        ("chat:sql@a", None),
        ("big:sql", None),
        ("Chat", None),
        (" chat", None),
    ],
)
def test_a_name_is_a_model_a_version_and_an_adapter(name: str, target: Candidate | None) -> None:
    assert parse(name, MODELS) == target
    assert Names(table(CHAT, BIG)).find(name) == target
    assert target is None or spell(target) == name


@given(st.text("chatbig@:sqlawx", max_size=14))
def test_a_name_that_is_read_spells_itself(name: str) -> None:
    target = parse(name, MODELS)
    assert target is None or spell(target) == name


def test_nothing_is_remembered_of_names_that_do_not_exist() -> None:
    names = Names(table(CHAT))
    for number in range(100):
        assert names.find(f"unknown-{number}") is None
    assert names.find("chat@a") is names.find("chat@a")
    assert len(names._named) == 1


def test_an_alias_stands_for_what_its_chain_ends_in() -> None:
    names = Names(table(CHAT, aliases={"gpt": "mini", "mini": "chat@a:sql", "auto2": "auto"}))
    assert names.find("gpt") == names.find("mini") == Candidate("chat", "a", "sql")
    assert names.find("auto2") is None
    assert names.resolve(ask("gpt")).route.candidates == (Candidate("chat", "a", "sql"),)


def test_aliases_in_a_circle_end_nowhere() -> None:
    names = Names(table(CHAT, aliases={"a": "b", "b": "a"}))
    with pytest.raises(NotFound):
        names.resolve(ask("a"))


def test_a_name_without_a_route_goes_where_it_says() -> None:
    names = Names(table(CHAT))
    found = names.resolve(ask("chat@a"))
    assert found.route.name == "direct"
    assert found.route.candidates == (Candidate("chat", "a"),)
    assert (found.reason, found.why) == ("named by the request", "named by the request, least latency")
    assert names.resolve(ask("chat@a")) is found


def test_an_unknown_name_is_not_found() -> None:
    with pytest.raises(NotFound, match="`nope` does not exist"):
        Names(table(CHAT)).resolve(ask("nope"))


def test_the_first_route_that_matches_wins() -> None:
    for_ann = route(
        "first", Candidate("chat", None), match=Match(models=frozenset({"auto"}), tenants=frozenset({"ann"}))
    )
    for_all = route("second", Candidate("big", None), match=Match(models=frozenset({"auto"})))
    never = route("third", Candidate("big", None), match=Match(models=frozenset({"auto"})))
    names = Names(table(CHAT, BIG, routes=[for_ann, for_all, never]))
    assert names.resolve(ask("auto")).route is for_ann
    found = names.resolve(ask("auto", tenant=tenant("bob")))
    assert (found.route, found.reason, found.why) == (for_all, "route second", "route second, least latency")


def test_a_route_may_take_requests_for_a_real_model() -> None:
    taken = route("chat", Candidate("big", None))
    names = Names(table(CHAT, BIG, aliases={"gpt": "chat"}, routes=[taken]))
    assert names.resolve(ask("chat")).route is taken
    assert names.resolve(ask("gpt")).route is taken  # by what the alias stands for
    assert names.resolve(ask("chat@a")).route.name == "direct"


def test_a_route_may_match_an_alias_by_its_own_name() -> None:
    taken = route("gpt", Candidate("big", None))
    names = Names(table(CHAT, BIG, aliases={"gpt": "chat"}, routes=[taken]))
    assert names.resolve(ask("gpt")).route is taken
    assert names.resolve(ask("chat")).route.name == "direct"


@pytest.mark.parametrize(
    ("match", "taken"),
    [
        (Match(), True),
        (Match(models=frozenset({"auto", "other"})), True),
        (Match(models=frozenset({"other"})), False),
        (Match(tenants=frozenset({"ann"})), True),
        (Match(tenants=frozenset({"bob"})), False),
        (Match(tiers=frozenset({"standard"})), True),
        (Match(tiers=frozenset({"premium"})), False),
        (Match(max_prompt_tokens=100), True),
        (Match(max_prompt_tokens=99), False),
        (Match(tenants=frozenset({"ann"}), tiers=frozenset({"premium"})), False),
    ],
)
def test_every_condition_of_a_route_must_hold(match: Match, taken: bool) -> None:
    last = route("last", Candidate("big", None), match=Match(models=frozenset({"auto"})))
    names = Names(table(CHAT, BIG, routes=[route("first", Candidate("chat", None), match=match), last]))
    assert names.resolve(ask("auto")).route.name == ("first" if taken else "last")


def test_a_virtual_name_whose_routes_all_decline_is_a_bad_request() -> None:
    short = route("short", Candidate("chat", None), match=Match(models=frozenset({"auto"}), max_prompt_tokens=10))
    names = Names(table(CHAT, aliases={"smart": "auto"}, routes=[short]))
    for asked in ("auto", "smart"):
        with pytest.raises(BadRequest, match=f"No route for `{asked}` takes this request"):
            names.resolve(ask(asked))


def test_virtual_names_are_those_only_routes_know() -> None:
    routes = [
        route("r", Candidate("chat", None), match=Match(models=frozenset({"auto", "chat", "gpt", "chat@a"}))),
        route("s", Candidate("chat", None), match=Match()),
    ]
    assert Names(table(CHAT, aliases={"gpt": "chat"}, routes=routes)).virtual == {"auto"}
