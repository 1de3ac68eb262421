"""Hidden routes: what the linter says agrees with trying every request there could be."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.lint import shadow
from gateway.config.lint.shadow import Shadows
from gateway.config.written.routes import Match

MODELS, TENANTS, TIERS, LENGTHS = ["m", "n", "o"], ["a", "b", "c"], ["gold", "basic"], [1, 5, 9]
ALIASES = {"o": "m"}
OPEN = "another"  # any name that no route mentions
TIER_OF = {"a": "gold", "b": "basic"}  # c is not known, so it may be of any tier


def names(of):
    return st.none() | st.lists(st.sampled_from(of), min_size=1, max_size=2, unique=True)


matches = st.builds(
    Match,
    model=names(MODELS),
    tenant=names(TENANTS),
    tier=names(TIERS),
    max_prompt_tokens=st.none() | st.sampled_from(LENGTHS),
)


def takes(match, model, tenant, tier, length):
    return (
        (match.model is None or model in match.model or ALIASES.get(model) in match.model)
        and (match.tenant is None or tenant in match.tenant)
        and (match.tier is None or tier in match.tier)
        and (match.max_prompt_tokens is None or length <= match.max_prompt_tokens)
    )


def requests():
    for model, tenant, tier in product([*MODELS, OPEN], [*TENANTS, OPEN], [*TIERS, OPEN]):
        if TIER_OF.get(tenant, tier) == tier:
            yield from ((model, tenant, tier, length) for length in (*LENGTHS, 10))


def hiding(match, earlier):
    shadows = Shadows(lambda name: ALIASES.get(name, name), TIER_OF.get)
    for name, other in earlier:
        shadows.add(name, other)
    return shadows.hiding(match)


@given(match=matches, earlier=st.lists(matches, max_size=4))
def test_a_route_is_hidden_exactly_if_no_request_gets_to_it(match, earlier):
    mine = [request for request in requests() if takes(match, *request)]
    left = [request for request in mine if not any(takes(other, *request) for other in earlier)]
    assert bool(hiding(match, list(zip("abcd", earlier, strict=False)))) == (bool(mine) and not left)


def test_the_routes_that_hide_it_are_named():
    earlier = [("x", Match(model=["n"])), ("y", Match(model=["m"])), ("z", Match(model=["m", "n"]))]
    assert hiding(Match(model=["m", "n"]), earlier) == ["y", "x"]


def test_a_route_of_very_many_names_counts_as_reachable():
    many = Match(model=[f"m{i}" for i in range(200)], tenant=[f"t{i}" for i in range(200)])
    assert shadow.MAX_CASES < 200 * 200
    assert hiding(many, [("all", Match())]) == []
