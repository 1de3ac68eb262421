"""What other gateways say goes into the workers' lines, is believed for a moment, and need not be well formed."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.account import Place, pending_tokens
from gateway.routing.elsewhere import (
    LEAST_TOKENS,
    MOST_EVENTS,
    MOST_GATEWAYS,
    MOST_HASHES,
    SILENT_SECONDS,
    Elsewhere,
    Message,
    News,
    Passed,
    Sent,
    heard,
    said,
)
from gateway.routing.prefix import PrefixIndex, Prompt
from gateway.routing.types import Step
from tests.unit.gateway.stories import Candidate, backend

W0, W1 = "http://w0", "http://w1"
RATE = 0.001  # seconds for a token

words = st.integers(0, 2**64 - 1)
counts = st.integers(0, 10**9)
ages = st.integers(0, 10**6)
urls = st.sampled_from([W0, W1, "https://w2:8000/x"])
sent = st.builds(Sent, urls, counts, ages, counts, st.just(-1) | ages, words, st.lists(words, max_size=5))
events = st.lists(sent | st.builds(Passed, urls, counts, ages), max_size=6)
texts = st.text(st.characters(exclude_categories=("Cs",)))
messages = st.builds(Message, texts, counts, st.dictionaries(urls, counts), events)


class Here:
    """This gateway's view of one worker, and what it hears."""

    def __init__(self) -> None:
        self.view = backend(prefixes=PrefixIndex().enrol(), seconds_per_prompt_token=RATE)
        self.others = Elsewhere("me", {W0: self.view}.get)
        self._number = 0

    def hear(self, *events: Sent | Passed, now: float, by: str = "you", skip: int = 0, inflight: int = 0) -> None:
        self._number += 1 + skip
        self.others.hear(said(Message(by, self._number, {W0: inflight}, events)), now)

    def pending(self, now: float) -> float:
        return pending_tokens(self.view, now)

    def own(self, tokens: int, now: float) -> Place:
        return Place(Step(self.view, Candidate("chat", "a"), "chat", 0.0, 0.0, 0.0), tokens, now)


def a_prompt(number: int = 1, tokens: int = 1_000, age_ms: int = 0, due_ms: int = -1) -> Sent:
    return Sent(W0, number, age_ms, tokens, due_ms, 0, ())


@given(messages)
def test_what_is_said_is_heard(message: Message) -> None:
    assert heard(said(message)) == message


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda one: str(one).encode()))
def test_noise_is_no_message(noise: bytes) -> None:
    here = Here()
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        here.others.hear(noise, 0.0)
    assert len(here.others) == 0


@pytest.mark.parametrize(
    "written",
    [
        ["you", 1, {}],
        ["you", 1, [], []],
        [1, 1, {}, []],
        ["you", -1, {}, []],
        ["you", 1, {W0: True}, []],
        ["you", 1, {W0: 2**60}, []],
        ["you", 1, {}, [[W0, 1]]],
        ["you", 1, {}, [[W0, 1, 0.5]]],
        ["you", 1, {}, [[W0, 1, 10**9]]],
        ["you", 1, {}, [[1, 1, 0]]],
        ["you", 1, {}, [[W0, 1, 0, 5, -2, 0, []]]],
        ["you", 1, {}, [[W0, 1, 0, 5, -1, -1, []]]],
        ["you", 1, {}, [[W0, 1, 0, 5, -1, 0, ["x"]]]],
        ["you", 1, {}, [[W0, 1, 0, 5, -1, 0, [7] * (MOST_HASHES + 1)]]],
        ["you", 1, {}, [[W0, 1, 0]] * (MOST_EVENTS + 1)],
    ],
)
def test_a_message_of_another_version_is_refused_whole(written: object) -> None:
    here = Here()
    with pytest.raises(ValueError):  # noqa: PT011
        here.others.hear(orjson.dumps(written), 0.0)
    assert len(here.others) == 0


def test_a_prompt_sent_elsewhere_stands_in_the_line_until_its_first_token() -> None:
    here = Here()
    here.hear(a_prompt(age_ms=100), now=10.0)
    assert here.pending(10.0) == pytest.approx(900), "the part that is done since is taken off"
    here.hear(a_prompt(2, tokens=500), now=10.5)
    assert here.pending(10.5) == pytest.approx(900)
    here.hear(Passed(W0, 1, 0), now=10.9)
    assert here.pending(10.9) == pytest.approx(500)
    here.hear(Passed(W0, 2, 0), Passed(W0, 7, 0), now=11.4)
    assert here.pending(11.4) == 0


def test_ones_own_speed_is_learnt_beside_others() -> None:
    """The time until one's own first token went by with the other's prompt before it."""
    here = Here()
    for turn in range(30):
        start = 10.0 * turn
        here.hear(a_prompt(turn + 1, tokens=3_000), now=start)
        own = here.own(1_000, start)
        here.hear(Passed(W0, turn + 1, 0), now=start + 3.0)
        own.first_token(start + 4.0)
        own.leave(start + 4.0, None)
    assert here.view.seconds_per_prompt_token == pytest.approx(RATE, rel=0.05)
    for turn in range(30, 60):  # and where only one's own shows
        start = 10.0 * turn
        here.hear(a_prompt(turn + 1, tokens=3_000), now=start)
        own = here.own(1_000, start)
        own.first_token(start + 4.0)
        own.leave(start + 4.0, None)
        here.hear(Passed(W0, turn + 1, 0), now=start + 4.5)
    assert here.view.seconds_per_prompt_token == pytest.approx(RATE, rel=0.05)


def test_an_answer_that_comes_whole_is_through_when_it_is_due() -> None:
    here = Here()
    here.hear(a_prompt(due_ms=2_000), now=10.0)
    here.own(10, 12.5)
    whole = Place(place_step(here), 10, 12.6, whole=True)
    assert here.view.pending_tokens == 20
    assert whole.is_waiting


def place_step(here: Here) -> Step:
    return Step(here.view, Candidate("chat", "a"), "chat", 0.0, 0.0, 0.0)


def test_in_flight_is_the_sum_of_what_each_said_last() -> None:
    here = Here()
    here.hear(now=0.0, by="a", inflight=3)
    here.others.hear(said(Message("b", 1, {W0: 2, W1: 5}, ())), 0.0)
    here.hear(now=0.1, by="a", inflight=1)
    assert here.others.inflight(0.1) == {W0: 3, W1: 5}


def test_who_is_silent_counts_for_nothing() -> None:
    here = Here()
    here.hear(a_prompt(), now=0.0, by="a", inflight=3)
    here.others.hear(said(Message("b", 1, {W0: 2}, [a_prompt(tokens=70)])), 0.5)
    assert here.others.inflight(SILENT_SECONDS) == {W0: 5}
    assert here.view.pending_tokens == 1_070
    assert here.others.inflight(SILENT_SECONDS + 0.1) == {W0: 2}
    assert here.view.pending_tokens == 70
    assert here.others.inflight(SILENT_SECONDS + 0.6) == {}
    assert (here.view.pending_tokens, len(here.view.prefilling), len(here.others)) == (0, 0, 0)


def test_who_missed_a_message_lets_go_of_what_it_may_never_hear_the_end_of() -> None:
    here = Here()
    here.hear(a_prompt(1), now=0.0)
    here.hear(a_prompt(2, tokens=70), now=0.1, skip=1)
    assert here.view.pending_tokens == 70


def test_nobody_counts_himself() -> None:
    here = Here()
    here.hear(a_prompt(), now=0.0, by="me", inflight=4)
    assert (here.others.inflight(0.0), here.view.pending_tokens) == ({}, 0)


def test_a_prompt_is_found_where_another_has_sent_it() -> None:
    here = Here()
    here.hear(Sent(W0, 1, 0, 10, -1, 5, (11, 22)), Sent(W1, 2, 0, 10, -1, 5, (33,)), now=0.0)
    assert here.view.prefixes is not None
    assert here.view.prefixes.index.match([11, 22, 44], 5) == {here.view.prefixes.slot: 2}
    assert here.view.prefixes.index.match([33], 5) == {}, "a worker that this gateway does not have"


def test_strangers_without_number_are_not_all_remembered() -> None:
    here = Here()
    for number in range(MOST_GATEWAYS + 5):
        here.others.hear(said(Message(f"g{number}", 1, {W0: 1}, ())), 0.0)
    assert here.others.inflight(0.0) == {W0: MOST_GATEWAYS}


def test_news_are_taken_once_with_their_ages() -> None:
    here, news = Here(), News()
    step = Step(here.view, Candidate("chat", "a"), "chat", 0.0, 0.0, 0.0, prompt=Prompt(None, [11, 22]), root=5)
    place = Place(step, 512, 10.0)
    assert not news
    number = news.sent(W0, place, step)
    news.passed(W0, number, 10.25)
    assert news
    assert news.take(10.5) == [Sent(W0, number, 500, 512, -1, 5, [11, 22]), Passed(W0, number, 250)]
    assert news.take(10.6) == []
    whole = Place(place_step(here), 1_000, 20.0, whole=True)
    assert news.sent(W0, whole, whole_step := place_step(here)) == number + 1
    (told,) = news.take(20.0)
    assert isinstance(told, Sent)
    assert told.due_ms > 0
    assert whole_step.prompt is None


def test_short_prompts_are_not_told_of() -> None:
    here, news = Here(), News()
    assert news.sent(W0, here.own(LEAST_TOKENS - 1, 0.0), place_step(here)) == 0
    assert not news
    assert news.sent(W0, here.own(LEAST_TOKENS, 0.0), place_step(here)) == 1


def test_a_message_has_no_more_than_its_readers_take() -> None:
    here, news = Here(), News()
    for number in range(3 * MOST_EVENTS):
        step = Step(here.view, Candidate("chat", "a"), "", 0.0, 0.0, 0.0, prompt=Prompt(None, [number] * 10), root=5)
        place = Place(step, 512, 0.0)
        news.passed(W0, news.sent(W0, place, step), 0.0)
        place.leave(0.0, None)
    events = news.take(0.0)
    assert len(events) == MOST_EVENTS
    assert heard(said(Message("you", 1, {}, events))).events == events
