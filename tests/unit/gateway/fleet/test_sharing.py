"""Two gateways on the same workers, and what each puts before its router."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.dispatch import Dispatch
from gateway.fleet.backend import Backend
from gateway.fleet.sharing import REPEAT_SECONDS, Sharing
from gateway.protocol.usage import NO_USAGE
from gateway.routing.elsewhere import MOST_EVENTS, SILENT_SECONDS
from gateway.routing.prefix import PrefixIndex, Prompt
from gateway.routing.types import Step
from tests.unit.gateway.stories import Candidate, backend

CHAIN = [11, 22, 33]
ROOT = 5


class Air:
    """Carries messages between gateways, or not."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.gone = False


class Ear:
    def __init__(self, air: Air) -> None:
        self._air, self._at = air, 0

    async def trade(self, message: bytes | None) -> list[bytes]:
        if self._air.gone:
            raise ConnectionError("gone")
        if message is not None:
            self._air.said.append(message)
        found = self._air.said[self._at :]
        self._at = len(self._air.said)
        return found

    async def close(self) -> None: ...


class Gateway:
    """One backend, and what is said of it."""

    def __init__(self, name: str, air: Air) -> None:
        self.worker: Backend = backend(prefixes=PrefixIndex().enrol())
        self.now = 0.0
        self.sharing = Sharing(self, Ear(air), name, clock=lambda: self.now)  # type: ignore[arg-type]

    def backends(self) -> list[Backend]:
        return [self.worker]

    def turn(self, now: float) -> None:
        self.now = now
        asyncio.run(self.sharing.turn())

    def ask(self, tokens: int = 700) -> Dispatch:
        step = Step(self.worker, Candidate("chat", "a"), "chat", 0.0, 0.0, 0.0, prompt=Prompt(None, CHAIN), root=ROOT)
        return Dispatch(self.worker, step, 1, tokens, 0)


@pytest.fixture
def air() -> Air:
    return Air()


@pytest.fixture
def pair(air: Air) -> tuple[Gateway, Gateway]:
    """Which have met."""
    pair = Gateway("a", air), Gateway("b", air)
    for gateway in pair:
        gateway.turn(0.0)
    return pair


def test_what_one_has_there_the_other_reckons_with(pair: tuple[Gateway, Gateway]) -> None:
    one, other = pair
    dispatch = one.ask()
    one.turn(0.1)
    other.turn(0.1)
    assert (other.worker.elsewhere_inflight, other.worker.pending_tokens) == (1, 700)
    assert (one.worker.elsewhere_inflight, one.worker.pending_tokens) == (0, 700), "its own it counts itself, once"
    dispatch.first_token()
    one.turn(0.2)
    other.turn(0.2)
    assert (other.worker.elsewhere_inflight, other.worker.pending_tokens) == (1, 0)
    dispatch.close("ok", NO_USAGE)
    one.turn(0.3)
    other.turn(0.3)
    assert other.worker.elsewhere_inflight == 0


def test_what_ends_before_its_first_token_is_told_too(pair: tuple[Gateway, Gateway]) -> None:
    one, other = pair
    one.ask().close("aborted", NO_USAGE)
    one.turn(0.1)
    other.turn(0.1)
    assert (other.worker.elsewhere_inflight, other.worker.pending_tokens, other.worker.prefilling) == (0, 0, {})


def test_a_prompt_sent_by_one_is_found_by_the_other(pair: tuple[Gateway, Gateway]) -> None:
    one, other = pair
    one.ask()
    one.turn(0.1)
    other.turn(0.1)
    assert other.worker.prefixes is not None
    assert other.worker.prefixes.index.match([*CHAIN, 44], ROOT) == {other.worker.prefixes.slot: 3}
    assert other.worker.prefixes.index.match(CHAIN, ROOT + 1) == {}


def test_who_is_killed_is_forgotten_soon(pair: tuple[Gateway, Gateway]) -> None:
    one, other = pair
    one.ask()
    one.turn(0.0)
    other.turn(0.0)
    other.turn(SILENT_SECONDS)
    assert (other.worker.elsewhere_inflight, other.worker.pending_tokens) == (1, 700)
    other.turn(SILENT_SECONDS + 0.1)
    assert (other.worker.elsewhere_inflight, other.worker.pending_tokens) == (0, 0)
    assert other.sharing.known == 1


def test_what_lasts_is_said_again_before_it_would_be_forgotten(pair: tuple[Gateway, Gateway], air: Air) -> None:
    one, other = pair
    one.ask()
    for tenth in range(40):
        one.turn(tenth / 10)
        other.turn(tenth / 10)
        assert other.worker.elsewhere_inflight == 1
    own = [said for said in air.said if said.startswith(b'["a"')]
    assert len(own) <= 4.0 / REPEAT_SECONDS + 2, "and not at every turn"


def test_who_has_nothing_to_do_is_counted_all_the_same(pair: tuple[Gateway, Gateway], air: Air) -> None:
    before = len(air.said)
    for tenth in range(1, 41):
        for gateway in pair:
            gateway.turn(tenth / 10)
        assert [gateway.sharing.known for gateway in pair] == [2, 2]
    assert len(air.said) - before <= 2 * 4.0 / REPEAT_SECONDS, "and says so no more often than what lasts"


def test_without_the_others_each_decides_alone_and_says_so_once(
    pair: tuple[Gateway, Gateway], air: Air, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tollgate.fleet")
    one, other = pair
    one.ask()
    one.turn(0.0)
    other.turn(0.0)
    air.gone = True
    for tenth in range(30):
        other.turn(tenth / 10)
    assert (other.worker.elsewhere_inflight, other.worker.pending_tokens) == (0, 0)
    air.gone = False
    one.turn(3.0)
    other.turn(3.0)
    assert other.worker.elsewhere_inflight == 1
    assert [record.message for record in caplog.records] == [
        "other gateways are not heard: each decides alone",
        "other gateways are heard again",
    ]


def test_rubbish_in_the_air_harms_nobody(pair: tuple[Gateway, Gateway], air: Air) -> None:
    one, other = pair
    air.said += [b"rubbish", b"[1,2]", b'["c",1,{"http://127.0.0.1:1":[1]},[]]']
    one.ask()
    one.turn(0.0)
    other.turn(0.0)
    assert other.worker.elsewhere_inflight == 1


def test_news_that_nobody_collects_are_bounded(pair: tuple[Gateway, Gateway], air: Air) -> None:
    one, other = pair
    for _ in range(2 * MOST_EVENTS):
        one.ask().close("ok", NO_USAGE)
    before = len(air.said)
    one.turn(0.1)
    other.turn(0.1)
    assert len(air.said) == before + 1
    assert other.worker.pending_tokens == 0


def test_a_worker_that_is_another_now_is_met_anew(pair: tuple[Gateway, Gateway]) -> None:
    one, other = pair
    one.worker = backend(prefixes=PrefixIndex().enrol())
    one.turn(0.1)
    one.ask()
    one.turn(0.2)
    other.turn(0.2)
    assert other.worker.pending_tokens == 700
