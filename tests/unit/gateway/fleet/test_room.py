"""The queue before full workers: bounded, in order, and nobody's place is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import Overloaded
from gateway.fleet.backend import BUSY_SECONDS, FEW, Backend
from gateway.fleet.room import WaitingRoom, expected_wait
from gateway.protocol.usage import NO_USAGE
from tests.unit.gateway import stories

LENGTH = 100


def full(name: str = "w0", most: int = 1) -> Backend:
    backend = stories.backend()
    backend.worker = replace(backend.worker, name=name, max_inflight=most)
    backend.inflight = most
    return backend


def free(backend: Backend) -> None:
    backend.inflight -= 1
    backend.let_in(time.monotonic())


def take(backend: Backend) -> None:
    backend.inflight += 1


def played(story: Callable[[WaitingRoom], Awaitable[None]]) -> None:
    async def run() -> None:
        room = WaitingRoom()
        await story(room)
        assert room.waiting == 0

    asyncio.run(run())


def waits(room: WaitingRoom, *backends: Backend, patience: float = 30.0) -> asyncio.Task[Backend]:
    return asyncio.ensure_future(room.place(backends, length=LENGTH, patience=patience))


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_first_place_free_goes_to_the_first_who_came() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        first, second = waits(room, backend), waits(room, backend)
        await turn()
        assert (room.waiting, len(backend.queue)) == (2, 2)
        free(backend)
        assert await first is backend
        take(backend)
        assert not second.done()
        assert backend.promised == 0
        free(backend)
        assert await second is backend

    played(story)


def test_nobody_overtakes_between_the_promise_and_the_taking() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        waiting = waits(room, backend)
        await turn()
        free(backend)
        assert not backend.has_room(time.monotonic())
        await waiting
        assert backend.has_room(time.monotonic())

    played(story)


def test_who_waits_for_several_takes_the_first_and_leaves_the_other_queues() -> None:
    async def story(room: WaitingRoom) -> None:
        one, two = full("one"), full("two")
        waiting = waits(room, one, two)
        await turn()
        free(two)
        assert await waiting is two
        assert (len(one.queue), len(two.queue)) == (0, 0)
        free(one)
        assert one.promised == 0

    played(story)


def test_who_leaves_gives_its_place_to_the_next() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        leaving, staying = waits(room, backend), waits(room, backend)
        await turn()
        free(backend)
        leaving.cancel()  # it has the place and does not know yet
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await staying is backend
        assert backend.promised == 0

    played(story)


def test_patience_ends() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        with pytest.raises(Overloaded):
            await waits(room, backend, patience=0.01)
        assert (len(backend.queue), room.refused) == (0, 1)

    played(story)


def test_a_full_queue_refuses_at_once() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        waiting = [waits(room, backend) for _ in range(LENGTH)]
        await turn()
        with pytest.raises(Overloaded):
            await room.place([backend], length=LENGTH, patience=30.0)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    played(story)


def test_a_wait_that_would_be_too_long_is_not_begun() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        backend.turnover = 2.0
        with pytest.raises(Overloaded) as refused:
            await room.place([backend], length=LENGTH, patience=1.5)
        assert refused.value.retry_after == pytest.approx(2.0)

    played(story)


def test_the_expected_wait_is_the_queue_over_the_pace_of_all_its_workers() -> None:
    one, two = full("one"), full("two")
    assert expected_wait([one, two]) == 0.0
    one.turnover = two.turnover = 1.0
    assert expected_wait([one, two]) == pytest.approx(0.5)
    loop = asyncio.new_event_loop()
    one.queue.extend(loop.create_future() for _ in range(3))
    two.queue.extend(one.queue)
    assert expected_wait([one, two]) == pytest.approx(2.0)
    loop.close()


def test_the_pace_is_learnt_from_places_that_come_free_while_somebody_waits() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        waiting = [waits(room, backend) for _ in range(4)]
        await turn()
        now = 1000.0
        for one in waiting:
            backend.inflight -= 1
            backend.let_in(now)
            await one
            take(backend)
            now += 0.5
        assert backend.turnover == pytest.approx(0.5)

    played(story)


@pytest.mark.parametrize("change", [{"up": False}, {"draining": True}])
def test_a_worker_that_takes_no_requests_lets_nobody_in(change: dict[str, Any]) -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        waiting = waits(room, backend)
        await turn()
        for name, value in change.items():
            setattr(backend, name, value)
        free(backend)
        assert backend.promised == 0
        backend.up, backend.draining = True, False
        backend.let_in(time.monotonic())
        await waiting

    played(story)


def test_an_attempts_end_lets_the_next_one_in() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = stories.backend()
        backend.worker = replace(backend.worker, max_inflight=1)
        attempt = stories.dispatch(backend)
        waiting = waits(room, backend)
        await turn()
        attempt.close("aborted", NO_USAGE)
        assert await waiting is backend

    played(story)


def test_an_engine_that_refuses_for_lack_of_room_shows_how_much_it_has() -> None:
    backend = stories.backend(inflight=FEW + 12)
    backend.full(50.0)
    assert not backend.has_room(50.0)
    backend.inflight -= 1
    assert not backend.has_room(50.0)
    backend.inflight -= 1
    assert backend.has_room(50.0)
    backend.inflight = 1000
    assert backend.has_room(50.0 + BUSY_SECONDS)


def test_a_refusal_while_few_are_in_flight_says_nothing_of_our_limit() -> None:
    backend = stories.backend(inflight=FEW)
    backend.full(50.0)
    assert backend.has_room(50.0)
