"""What other gateways say is added up, believed for a moment, and never trusted to be well formed."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.elsewhere import (
    MOST_GATEWAYS,
    MOST_HASHES,
    NOTHING,
    SILENT_SECONDS,
    Elsewhere,
    Sent,
    Share,
    heard,
    said,
)

W0, W1 = "http://w0", "http://w1"

words = st.integers(0, 2**64 - 1)
prompts = st.builds(Sent, words, st.lists(words, max_size=5))
loads = st.builds(Share, st.integers(0, 1_000), st.integers(0, 10**9), st.lists(prompts, max_size=3))
shares = st.dictionaries(st.sampled_from([W0, W1, "https://w2:8000/x"]), loads)


@given(st.text(st.characters(exclude_categories=("Cs",))), shares)
def test_what_is_said_is_heard(gateway: str, shares: dict[str, Share]) -> None:
    assert heard(said(gateway, shares)) == (gateway, shares)


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda one: str(one).encode()))
def test_noise_is_no_message(noise: bytes) -> None:
    others = Elsewhere("me")
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        others.hear(noise, 0.0)
    assert others.totals(0.0) == {}


@pytest.mark.parametrize(
    "workers",
    [
        {W0: [1, 2]},
        {W0: [-1, 0, []]},
        {W0: [True, 0, []]},
        {W0: [0, 2**60, []]},
        {W0: [0, 0.5, []]},
        {W0: [0, 0, [[1]]]},
        {W0: [0, 0, [[-1, []]]]},
        {W0: [0, 0, [[1, ["x"]]]]},
        {W0: [0, 0, [[1, 5]]]},
        {W0: [0, 0, None]},
        {W0: [0, 0, [[1, [7] * (MOST_HASHES + 1)]]]},
        [],
    ],
)
def test_a_message_of_another_version_is_refused_whole(workers: object) -> None:
    others = Elsewhere("me")
    with pytest.raises(ValueError):  # noqa: PT011
        others.hear(orjson.dumps(["you", workers]), 0.0)
    assert len(others) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), shares), max_size=12))
def test_totals_are_the_sums_of_what_each_said_last(messages: list[tuple[str, dict[str, Share]]]) -> None:
    others = Elsewhere("me")
    last: dict[str, dict[str, Share]] = {}
    for name, said_by_it in messages:
        others.hear(said(name, said_by_it), 0.0)
        last[name] = said_by_it
    totals = others.totals(0.0)
    for url in (W0, W1):
        expected = [one[url] for one in last.values() if url in one]
        there = totals.get(url, NOTHING)
        assert there.inflight == sum(one.inflight for one in expected)
        assert there.pending_tokens == sum(one.pending_tokens for one in expected)


def test_who_is_silent_counts_for_nothing() -> None:
    others = Elsewhere("me")
    others.hear(said("a", {W0: Share(3, 100)}), 0.0)
    others.hear(said("b", {W0: Share(2, 10)}), 0.5)
    assert others.totals(SILENT_SECONDS)[W0] == Share(5, 110)
    assert others.totals(SILENT_SECONDS + 0.1)[W0] == Share(2, 10)
    assert others.totals(SILENT_SECONDS + 0.6) == {}
    assert len(others) == 0


def test_nobody_counts_himself() -> None:
    others = Elsewhere("me")
    assert others.hear(said("me", {W0: Share(3, 100, [Sent(1, [2])])}), 0.0) == []
    assert others.totals(0.0) == {}


def test_prompts_are_given_once_and_not_kept() -> None:
    others = Elsewhere("me")
    sent = [Sent(1, [2, 3]), Sent(4, [5])]
    assert list(others.hear(said("you", {W1: Share(1, 2, sent)}), 0.0)) == [(W1, one) for one in sent]
    assert others.totals(0.0) == {W1: Share(1, 2)}


def test_a_message_has_no_more_prompts_than_its_readers_take() -> None:
    many = [Sent(number, [number] * 1_000) for number in range(10)]
    _, found = heard(said("you", {W0: Share(1, 1, many), W1: Share(1, 1, [Sent(9, [9])])}))
    assert found[W0].sent == many[:4]
    assert found[W1].sent == [Sent(9, [9])], "what still fits is said"


def test_strangers_without_number_are_not_all_remembered() -> None:
    others = Elsewhere("me")
    for number in range(MOST_GATEWAYS + 5):
        others.hear(said(f"g{number}", {W0: Share(1, 0)}), 0.0)
    assert others.totals(0.0)[W0].inflight == MOST_GATEWAYS
