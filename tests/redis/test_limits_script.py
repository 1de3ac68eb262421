"""`limits.lua` is `book.py` once more: whatever is claimed in whatever order, both answer the same."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.tenancy.book import Books, Claim, Demand, Grant, Overtaken
from tests.redis.conftest import RedisServer

SCRIPT = (files("gateway") / "state" / "limits.lua").read_text()
NAMES = ("tenant", "key:prod", "model:big")
HOLDERS = ("host:1.0/a", "host:1.0/b", "c")  # the first two in one place

amounts = st.one_of(st.integers(0, 30), st.integers(0, 3_000_000))
money = st.one_of(st.integers(0, 300), st.integers(0, 10**15))
Step = tuple[str, int, int, list[str], list[Claim], list[Demand]]
Story = list[Step]
SURE = 0  # becomes what the account says
limits = st.one_of(st.just(-1), st.integers(1, 40), st.integers(1, 5_000_000))


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    used, spent = draw(amounts), draw(money)
    tokens = draw(amounts)
    return Claim(
        draw(st.integers(0, 2_000)),
        draw(limits),
        used,
        draw(st.integers(0, used)),
        draw(amounts),
        draw(amounts),
        draw(amounts),
        draw(limits),
        tokens,
        draw(st.integers(0, tokens)),
        draw(amounts),
        draw(amounts),
        draw(amounts),
        draw(limits),
        draw(st.integers(0, 50)),
        draw(st.integers(0, 50)),
        draw(st.one_of(st.just(-1), st.integers(1, 400), st.integers(1, 9 * 10**15))),
        draw(st.integers(0, 1)),
        spent,
        draw(st.integers(0, spent)),
        draw(money),
        draw(money),
        draw(st.integers(0, 2)) * 86_400_000,
        draw(st.one_of(st.just(0), money)),
        draw(st.sampled_from((0, 1_800_000_000_000, 1_700_000_000_000))),
        draw(st.one_of(st.just(0), money)),
        draw(st.sampled_from((-1, SURE))),
    )


@st.composite
def steps(draw: st.DrawFn) -> Step:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    made = [draw(claims()) for _ in names]
    accounts = st.lists(st.integers(0, len(names) - 1), min_size=1, unique=True).map(tuple)
    demands = draw(
        st.lists(st.builds(Demand, st.integers(0, 1), amounts, st.integers(0, 1), money, accounts), max_size=5)
    )
    wait = draw(st.one_of(st.integers(0, 500), st.sampled_from((5_001, 10_001, 60_000, 3_700_000, -70_000))))
    return draw(st.sampled_from(HOLDERS)), wait, draw(st.integers(0, 3)), names, made, demands


def holds(money_used: int, money_held: int, want: int = -1) -> Claim:
    """Of a budget of a thousand, and of nothing else."""
    none = (-1, 0, 0, 0, 0, 0)
    return Claim(0, *none, *none, -1, 0, 0, 1_000, 1, money_used, 0, money_held, 0, 0, 0, 0, 90, want)


def story_of(*told: tuple[str, int, Claim]) -> Story:
    return [(holder, wait, 1, ["tenant"], [claim], []) for holder, wait, claim in told]


RETURNS = story_of(  # one that was charged, and whose charge is forgotten
    (HOLDERS[0], 0, holds(100, 50)),
    (HOLDERS[1], 0, holds(0, 0)),
    (HOLDERS[1], 11_000, holds(0, 0)),
    (HOLDERS[1], 0, holds(0, 0, SURE)),
    (HOLDERS[0], 0, holds(120, 30)),
)


@pytest.mark.redis
@example(story=RETURNS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(steps(), max_size=12))
def test_both_books_answer_alike(redis_server: RedisServer, story: Story) -> None:
    books, now, seqs = Books(), 1_800_000_000_000, dict.fromkeys(HOLDERS, 1)
    with redis_server.client() as redis:
        redis.flushall()
        told: dict[tuple[str, str], Claim] = {}
        said: dict[str, Grant] = {}
        script = redis.register_script(SCRIPT)
        for holder, wait, forward, names, made, demands in story:
            now += wait
            made = [sure(told.get((holder, name)), said.get(name), one) for name, one in zip(names, made, strict=True)]
            seqs[holder] += forward
            written = [
                holder,
                seqs[holder],
                10_000,
                now,
                names,
                [list(claim) for claim in made],
                [list(d) for d in demands],
            ]
            answer = script(keys=["limits"], args=[json.dumps(written), 60_000])
            try:
                grants = books.claim("t", holder, seqs[holder], 10_000, names, made, demands, now)
            except Overtaken:
                assert answer == [now, 1]
            else:
                assert answer == [now, 0, *(number for grant in grants for number in grant)]
                for name, claim, grant in zip(names, made, grants, strict=True):
                    told[holder, name], said[name] = claim, grant


def sure(before: Claim | None, grant: Grant | None, claim: Claim) -> Claim:
    """Of one who has nothing to tell, and knows what the account says."""
    if claim.money_sure != SURE or before is None or grant is None or before.money_limit < 0:
        return claim
    return claim._replace(
        money_limit=before.money_limit,
        money_used=before.money_used,
        money_acked=before.money_used,
        money_period=before.money_period,
        money_seen=grant.money_spent,
        money_born=grant.born,
        money_seed=min(claim.money_seed, grant.money_spent),
        money_sure=grant.money_spent,
    )
