"""Each rule on a handful of workers, where what it should do can be told by eye."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from loadtests.simulate.policies import IMBALANCE, RULES, RoundRobin, Rule
from loadtests.simulate.sight import Sight

DICE = Random(0)


def sight(**seen: Any) -> Sight:
    """Two idle workers, of which neither knows anything of a prompt of ten blocks."""
    count = max((len(seen[name]) for name in seen.keys() - {"able"}), default=2)
    none = [0] * count
    return Sight(
        **{
            "prompt": 5_120,
            "blocks": 10,
            "able": range(count),
            "matched": none,
            "uncached": [5_120] * count,
            "pending": [0.0] * count,
            "queued": none,
            "inflight": none,
            "rates": [1_000.0] * count,
            **seen,
        }
    )


def rule(name: str) -> Rule:
    return RULES[name]()


@pytest.mark.parametrize("name", RULES)
def test_only_those_are_chosen_that_are_able(name: str) -> None:
    chosen = {
        rule(name)(sight(able=[1, 2], matched=[9, 0, 0, 9], pending=[0.0, 5.0, 5.0, 0.0]), DICE) for _ in range(20)
    }
    assert chosen <= {1, 2}


@pytest.mark.parametrize("name", set(RULES) - {"round-robin"})
def test_equals_are_chosen_by_chance(name: str) -> None:
    assert {rule(name)(sight(), DICE) for _ in range(50)} == {0, 1}


def test_round_robin_takes_turns_and_skips_who_is_away() -> None:
    turns = RoundRobin()
    assert [turns(sight(matched=[0, 0, 0]), DICE) for _ in range(4)] == [0, 1, 2, 0]
    assert [turns(sight(matched=[0, 0, 0], able=[0, 2]), DICE) for _ in range(3)] == [2, 0, 2]


def test_least_pending_counts_seconds_not_tokens() -> None:
    assert rule("least-pending")(sight(pending=[100.0, 150.0], rates=[100.0, 1_000.0]), DICE) == 1


def test_longest_prefix_looks_at_nothing_else() -> None:
    assert rule("longest-prefix")(sight(matched=[1, 2], pending=[0.0, 1e9]), DICE) == 1


@pytest.mark.parametrize(
    ("seen", "chosen"),
    [
        ({"matched": [0, 6], "inflight": [0, 9]}, 1),  # most of it is known there
        ({"matched": [0, 5], "inflight": [0, 9]}, 0),  # not more than half
        ({"matched": [0, 10], "inflight": [0, IMBALANCE + 1]}, 0),  # too many are there already
        ({"matched": [0, 10], "inflight": [60, 60 + IMBALANCE // 2]}, 1),
    ],
)
def test_sglang_follows_a_prefix_unless_out_of_balance(seen: dict[str, Any], chosen: int) -> None:
    assert rule("sglang")(sight(**seen), DICE) == chosen


def test_llm_d_weighs_a_whole_prefix_above_the_longest_queue_and_no_less_than_two_thirds_of_it() -> None:
    """3 × 0.7 against 2 × 1, and 3 × 0.6."""
    assert rule("llm-d")(sight(matched=[0, 7], queued=[0, 50]), DICE) == 1
    assert rule("llm-d")(sight(matched=[0, 6], queued=[0, 1]), DICE) == 0


def test_dynamo_multiplies_work_with_the_queue() -> None:
    assert rule("dynamo")(sight(pending=[10_000.0, 0.0], queued=[0, 3]), DICE) == 0
    assert rule("dynamo")(sight(pending=[20_000.0, 0.0], queued=[0, 3]), DICE) == 1


def test_weighing_own_prefill_twice_goes_further_for_a_prefix() -> None:
    """1.5 s of waiting against 1 s more of prefill."""
    seen = sight(pending=[1_500.0, 0.0], uncached=[1_000, 2_000])
    assert rule("seconds")(seen, DICE) == 1
    assert rule("seconds-weighted")(seen, DICE) == 0
