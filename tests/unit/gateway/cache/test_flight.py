"""Identical requests under way: one goes upstream, the others get its answer, and nobody waits for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.cache.entry import Entry
from gateway.cache.flight import Flight, Flights

ENTRY = Entry(b"{}", b"application/json", "m@v", "m", 1, 0, 1)
KEY = b"k" * 32


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_the_first_goes_at_once_and_the_others_get_its_entry() -> None:
    async def story() -> None:
        flights = Flights()
        leader = flights.join(KEY)
        assert leader.leads
        assert await leader.wait() is None
        followers = [asyncio.create_task(flights.join(KEY).wait()) for _ in range(10)]
        await turns()
        assert not any(task.done() for task in followers)
        leader.land(ENTRY)
        leader.leave()
        assert await asyncio.gather(*followers) == [ENTRY] * 10
        assert len(flights) == 0

    run(story())


def test_other_requests_do_not_wait() -> None:
    async def story() -> None:
        flights = Flights()
        assert await flights.join(b"a").wait() is None
        assert await flights.join(b"b").wait() is None
        assert len(flights) == 2

    run(story())


def test_when_the_leader_fails_the_longest_waiting_leads_and_the_rest_wait_on() -> None:
    async def story() -> None:
        flights = Flights()
        leader, second, third = (flights.join(KEY) for _ in range(3))
        waits = [asyncio.create_task(flight.wait()) for flight in (second, third)]
        await turns()
        leader.leave()
        assert await waits[0] is None
        assert second.leads
        await turns()
        assert not waits[1].done()
        second.land(ENTRY)
        assert await waits[1] == ENTRY

    run(story())


def test_an_answer_that_cannot_be_shared_sends_everybody_off_at_once() -> None:
    async def story() -> None:
        flights = Flights()
        leader = flights.join(KEY)
        waits = [asyncio.create_task(flights.join(KEY).wait()) for _ in range(3)]
        await turns()
        leader.land(None)
        assert await asyncio.gather(*waits) == [None] * 3
        assert len(flights) == 0

    run(story())


def test_a_follower_that_leaves_is_not_chosen() -> None:
    async def story() -> None:
        flights = Flights()
        leader, second, third = (flights.join(KEY) for _ in range(3))
        waits = [asyncio.create_task(flight.wait()) for flight in (second, third)]
        await turns()
        waits[0].cancel()
        await asyncio.wait(waits[:1])
        leader.leave()
        assert await waits[1] is None
        assert third.leads

    run(story())


def test_a_follower_cancelled_as_it_is_chosen_passes_the_lead_on() -> None:
    async def story() -> None:
        flights = Flights()
        leader, second, third = (flights.join(KEY) for _ in range(3))
        waits = [asyncio.create_task(flight.wait()) for flight in (second, third)]
        await turns()
        leader.leave()  # chooses the second …
        waits[0].cancel()  # … whose client goes before it can run
        assert await waits[1] is None
        assert third.leads
        assert waits[0].cancelled()

    run(story())


def test_a_follower_cancelled_just_before_it_would_be_chosen_passes_the_lead_on() -> None:
    async def story() -> None:
        flights = Flights()
        leader, second, third = (flights.join(KEY) for _ in range(3))
        waits = [asyncio.create_task(flight.wait()) for flight in (second, third)]
        await turns()
        waits[0].cancel()
        leader.leave()
        assert await waits[1] is None
        assert third.leads

    run(story())


def test_patience_ends_and_the_follower_goes_alone() -> None:
    async def story() -> None:
        flights = Flights(patience=0.0)
        leader, second = flights.join(KEY), flights.join(KEY)
        assert await second.wait() is None
        assert not second.leads
        second.leave()
        assert leader.leads, "the impatient one does not take the lead"
        leader.land(ENTRY)
        assert len(flights) == 0

    run(story())


def test_followers_are_bounded() -> None:
    async def story() -> None:
        flights = Flights(max_followers=2)
        leader = flights.join(KEY)
        waits = [asyncio.create_task(flights.join(KEY).wait()) for _ in range(2)]
        await turns()
        extra = flights.join(KEY)
        assert await extra.wait() is None
        assert not extra.leads
        extra.land(ENTRY)  # the answer of someone alone is nobody else's
        extra.leave()
        await turns()
        assert not any(task.done() for task in waits)
        leader.land(ENTRY)
        assert await asyncio.gather(*waits) == [ENTRY, ENTRY]

    run(story())


@pytest.mark.parametrize("times", [1, 2, 3])
def test_leaving_is_harmless_any_number_of_times(times: int) -> None:
    async def story() -> None:
        flights = Flights()
        leader = flights.join(KEY)
        for _ in range(times):
            leader.leave()
        leader.land(ENTRY)
        assert len(flights) == 0

    run(story())


class Crowd(RuleBasedStateMachine):
    """Callers come, are served, fail, leave and lose patience in any order, over a few keys."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.flights = Flights(patience=3600.0, max_followers=3)
        self.callers: list[tuple[bytes, Flight, asyncio.Task[Entry | None]]] = []

    def step(self) -> None:
        self.loop.run_until_complete(turns(3))

    def leaders(self, key: bytes | None = None) -> list[Flight]:
        return [flight for k, flight, _ in self.callers if flight.leads and key in (None, k)]

    def waiting(self) -> list[tuple[bytes, Flight, asyncio.Task[Entry | None]]]:
        return [caller for caller in self.callers if not caller[2].done()]

    @rule(key=st.sampled_from([b"a", b"b"]))
    def come(self, key: bytes) -> None:
        async def join() -> None:
            flight = self.flights.join(key)
            self.callers.append((key, flight, self.loop.create_task(flight.wait())))

        self.loop.run_until_complete(join())
        self.step()

    @precondition(lambda self: self.leaders())
    @rule(data=st.data(), shared=st.booleans())
    def land(self, data: st.DataObject, shared: bool) -> None:
        flight = data.draw(st.sampled_from(self.leaders()))
        key = next(k for k, f, _ in self.callers if f is flight)
        followers = [task for k, f, task in self.waiting() if k == key]
        flight.land(ENTRY if shared else None)
        self.step()
        assert [task.result() for task in followers] == [ENTRY if shared else None] * len(followers)

    @precondition(lambda self: self.leaders())
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.leaders())).leave()
        self.step()

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), run_between=st.booleans())
    def go_away(self, data: st.DataObject, run_between: bool) -> None:
        _, _, task = data.draw(st.sampled_from(self.waiting()))
        task.cancel()
        if run_between:
            self.step()

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def lose_patience(self, data: st.DataObject) -> None:
        _, flight, task = data.draw(st.sampled_from(self.waiting()))
        flight._lose_patience()  # what the timer calls
        self.step()
        assert task.done()
        assert not flight.leads

    @invariant()
    def whoever_waits_has_exactly_one_leader_to_wait_for(self) -> None:
        self.step()
        for key in (b"a", b"b"):
            waiting = [flight for k, flight, _ in self.waiting() if k == key]
            assert len(self.leaders(key)) <= 1
            assert len(waiting) <= 3
            if waiting:
                assert len(self.leaders(key)) == 1
        assert len(self.flights) == len(self.leaders())

    def teardown(self) -> None:
        for _, flight, task in self.callers:
            task.cancel()
            flight.leave()
        self.step()
        for _, flight, _ in self.callers:
            flight.leave()
        assert len(self.flights) == 0
        assert all(task.done() for _, _, task in self.callers)
        self.loop.close()


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
