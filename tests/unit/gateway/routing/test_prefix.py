"""The prefix index against a naive one: for each worker a list of what it holds."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.routing.prefix import (
    BLOCK_BYTES,
    BLOCK_TOKENS,
    BLOCKS_PER_WORKER,
    MOST_BLOCKS,
    PrefixCache,
    PrefixIndex,
    Prompt,
    canonical_text,
    chain_of,
    root_of,
)

BLOCK = b"x" * BLOCK_BYTES


# What is hashed


def test_a_prompt_shorter_than_a_block_has_no_chain() -> None:
    assert chain_of(BLOCK[:-1]) == []
    assert len(chain_of(BLOCK)) == 1


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(0, 4))
def test_equal_prefixes_have_equal_hashes_and_others_have_not(one: bytes, two: bytes, shared: int) -> None:
    first, second = chain_of(BLOCK * shared + one * 100), chain_of(BLOCK * shared + two * 100)
    assert first[:shared] == second[:shared]
    assert len(set(first)) == len(first)
    for at in range(shared, min(len(first), len(second))):
        end = (at + 1 - shared) * BLOCK_BYTES
        assert (first[at] == second[at]) == ((one * 100)[:end] == (two * 100)[:end])


def test_a_block_is_known_by_all_that_comes_before_it() -> None:
    assert chain_of(BLOCK + b"y" * BLOCK_BYTES)[1] != chain_of(b"z" * BLOCK_BYTES + b"y" * BLOCK_BYTES)[1]


def test_hashes_are_of_64_bits_and_the_same_in_every_process() -> None:
    assert chain_of(BLOCK) == [12327296894230799524]
    assert root_of("chat", "fp8", "", "support") == 14157343595791758982


def test_no_more_of_a_prompt_is_hashed_than_a_bound() -> None:
    assert len(chain_of(BLOCK * (MOST_BLOCKS + 3))) == MOST_BLOCKS


@pytest.mark.parametrize(
    ("body", "read"),
    [
        ({"model": "a", "messages": [1], "tools": [2], "stream": True}, [[2], [1]]),
        ({"prompt": "p", "max_tokens": 3}, ["p"]),
        ({"input": ["a", "b"]}, [["a", "b"]]),
        ({"instructions": "i", "input": "x"}, ["i", "x"]),
        ({"system": "s", "messages": []}, ["s", []]),
        ({"model": "a"}, []),
    ],
)
def test_what_the_model_reads_comes_in_the_order_it_reads_it(body: dict[str, Any], read: list[Any]) -> None:
    assert orjson.loads(canonical_text(body)) == read


def test_a_conversation_that_goes_on_keeps_its_blocks() -> None:
    turns = [{"role": "user", "content": "hello " * 300}, {"role": "assistant", "content": "hi " * 300}]
    before, after = Prompt({"messages": turns}).chain, Prompt({"messages": [*turns, *turns]}).chain
    assert len(before) == 2
    assert after[:2] == before


@pytest.mark.parametrize("other", [("big", "a", "", "t"), ("chat", "b", "", "t"), ("chat", "a", "x", "t")])
def test_what_is_cached_apart_has_another_root(other: tuple[str, str, str, str]) -> None:
    assert root_of(*other) != root_of("chat", "a", "", "t") != root_of("chat", "a", "", "u")


# The index


def test_the_longest_match_of_every_worker_is_found_at_once() -> None:
    index = PrefixIndex()
    one, two, three = index.enrol(), index.enrol(), index.enrol()
    one.insert([1, 2, 3], 0)
    two.insert([1, 2, 9, 4], 0)
    three.insert([7], 0)
    assert index.match([1, 2, 3, 4], 0) == {one.slot: 3, two.slot: 2}
    assert index.match([7, 1], 0) == {three.slot: 1}
    assert index.match([5], 0) == index.match([], 0) == {}


def test_another_root_has_nothing_in_common() -> None:
    index = PrefixIndex()
    index.enrol().insert([1, 2], root_of("chat", "a", "", "t"))
    assert index.match([1, 2], root_of("chat", "a", "", "u")) == {}


def test_the_least_recently_used_prompt_goes_first_and_its_end_before_its_beginning() -> None:
    index = PrefixIndex()
    cache = index.enrol()
    cache.capacity = 4
    cache.insert([1, 2, 3], 0)
    cache.insert([7], 0)
    cache.insert([8], 0)
    assert index.match([1, 2, 3], 0) == {cache.slot: 2}
    cache.insert([1, 2], 0)
    cache.insert([9], 0)
    assert index.match([7], 0) == {}
    assert index.match([1, 2], 0) == {cache.slot: 2}


def test_a_worker_that_is_gone_leaves_nothing_and_its_slot_is_anothers() -> None:
    index = PrefixIndex()
    old = index.enrol()
    old.insert([1], 0)
    old.leave()
    new = index.enrol()
    assert (new.slot, index.match([1], 0), len(index)) == (old.slot, {}, 0)
    old.insert([2], 0)  # a request that was planned before
    old.leave()
    assert index.match([2], 0) == {}
    assert index.enrol().slot != new.slot


def test_all_together_are_bounded_also_when_more_come() -> None:
    index = PrefixIndex(most_blocks=100)
    first = index.enrol()
    first.insert(list(range(90)), 0)
    assert len(index) == 90
    others = [index.enrol() for _ in range(9)]
    assert len(first) == 10
    for at, cache in enumerate(others):
        cache.insert(list(range(at * 1000, at * 1000 + 50)), 0)
    assert len(index) == 100


def test_without_a_known_size_a_cache_has_a_usual_one() -> None:
    cache = PrefixIndex().enrol()
    for at in range(5):
        cache.insert(list(range(at * 1000, at * 1000 + 1000)), 0)
    assert len(cache) == BLOCKS_PER_WORKER


def test_a_cache_has_no_more_than_its_engine_says() -> None:
    cache = PrefixIndex().enrol()
    cache.insert(list(range(500)), 0)
    cache.told(100 * BLOCK_TOKENS + 1)
    assert (cache.most, len(cache)) == (100, 100)
    assert cache.index.match(list(range(500)), 0) == {cache.slot: 100}
    cache.limit(200)
    assert cache.most == 100
    cache.limit(80)
    assert (cache.most, len(cache)) == (80, 80)
    cache.told(0)
    cache.insert([1], 0)
    assert (cache.most, len(cache)) == (0, 0)


def test_a_cache_that_its_engine_says_is_large_is_larger_than_the_usual_one_and_within_its_share() -> None:
    cache = PrefixIndex(most_blocks=2 * BLOCKS_PER_WORKER).enrol()
    cache.told(1e30)
    assert cache.most == 2 * BLOCKS_PER_WORKER


class Naive:
    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.blocks: list[int] = []  # the most recently used last

    def insert(self, chain: list[int]) -> None:
        for block in reversed(chain[: self.capacity]):
            if block in self.blocks:
                self.blocks.remove(block)
            self.blocks.append(block)
        self.blocks = self.blocks[-self.capacity :]

    def match(self, chain: list[int]) -> int:
        for depth, block in enumerate(chain):
            if block not in self.blocks:
                return depth
        return len(chain)


chains = st.lists(st.integers(0, 12), max_size=6, unique=True)


class Index(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex()
        self.pairs: list[tuple[PrefixCache, Naive]] = []

    @rule(capacity=st.integers(1, 8))
    def a_worker_comes(self, capacity: int) -> None:
        cache = self.index.enrol()
        cache.capacity = capacity
        assert cache.slot not in {other.slot for other, _ in self.pairs}
        self.pairs.append((cache, Naive(capacity)))

    @rule(at=st.integers(0, 9), chain=chains)
    def a_prompt_is_sent(self, at: int, chain: list[int]) -> None:
        if self.pairs:
            cache, naive = self.pairs[at % len(self.pairs)]
            cache.insert(chain, 77)
            naive.insert(chain)

    @rule(at=st.integers(0, 9))
    def a_worker_restarts(self, at: int) -> None:
        if self.pairs:
            cache, naive = self.pairs[at % len(self.pairs)]
            cache.clear()
            naive.blocks.clear()

    @rule(at=st.integers(0, 9))
    def a_worker_goes(self, at: int) -> None:
        if self.pairs:
            cache, _ = self.pairs.pop(at % len(self.pairs))
            cache.leave()

    @rule(chain=chains)
    def matches_agree(self, chain: list[int]) -> None:
        expected = {cache.slot: naive.match(chain) for cache, naive in self.pairs if naive.match(chain)}
        assert self.index.match(chain, 77) == expected

    @invariant()
    def sizes_agree(self) -> None:
        assert [len(cache) for cache, _ in self.pairs] == [len(naive.blocks) for _, naive in self.pairs]
        assert len(self.index) == sum(len(cache) for cache, _ in self.pairs)


TestIndex = Index.TestCase
TestIndex.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
