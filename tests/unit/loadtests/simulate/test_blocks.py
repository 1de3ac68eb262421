"""Prefix caches: what is held, what goes first, what cannot go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtests.simulate.blocks import Cache, Index


def test_an_index_matches_from_the_beginning_only() -> None:
    index = Index(10)
    index.use((1, 2, 3))
    assert index.matched((1, 2, 9, 3)) == 2
    assert index.matched((2, 3)) == 2
    assert index.matched((9, 1)) == 0
    assert index.matched(()) == 0


def test_an_index_forgets_the_longest_unused_and_the_end_of_a_prompt_first() -> None:
    index = Index(4)
    index.use((1, 2))
    index.use((3, 4))
    index.use((1, 5))
    assert [index.matched((block,)) for block in (1, 2, 3, 4, 5)] == [1, 0, 1, 1, 1]
    index.use((6,))
    assert [index.matched((block,)) for block in (1, 3, 4, 5, 6)] == [1, 1, 0, 1, 1]


def test_a_cache_keeps_what_is_in_use_and_gives_up_the_rest() -> None:
    cache = Cache(4)
    assert cache.take((1, 2), 0)
    assert cache.take((1, 3), 0)
    assert cache.in_use == 3
    cache.give_back((1, 3), 0)
    assert cache.in_use == 2
    assert len(cache) == 3
    assert cache.take((4, 5), 0)
    assert cache.matched((1, 2)) == 2
    assert cache.matched((3,)) == 0
    assert not cache.take((6,), 0)
    assert cache.in_use == 4


def test_answers_take_blocks_that_nobody_else_can_use() -> None:
    cache = Cache(4)
    assert cache.take((1,), 3)
    assert not cache.take((), 1)
    assert cache.take((1,), 0)
    cache.give_back((1,), 3)
    cache.give_back((1,), 0)
    assert cache.in_use == 0
    assert cache.take((), 4)
    assert cache.matched((1,)) == 0


@given(st.lists(st.tuples(st.lists(st.integers(0, 12), max_size=5, unique=True), st.integers(0, 3)), max_size=40))
def test_a_cache_never_holds_more_than_fits_and_forgets_nobody_who_uses_it(
    prompts: list[tuple[list[int], int]],
) -> None:
    cache = Cache(8)
    using: list[tuple[list[int], int]] = []
    for blocks, nameless in prompts:
        while not cache.take(blocks, nameless):
            cache.give_back(*using.pop(0))
        using.append((blocks, nameless))
        assert len(cache) + sum(count for _, count in using) <= 8
        assert all(cache.matched(held) == len(held) for held, _ in using)
    for held in using:
        cache.give_back(*held)
    assert cache.in_use == 0
