"""The queue before full workers: bounded, by turns, and nobody's place is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import NoTurn, Overloaded
from gateway.fleet.backend import BUSY_SECONDS, FEW, Backend
from gateway.fleet.room import WaitingRoom
from gateway.protocol.usage import NO_USAGE, Usage
from gateway.routing.fair import ENOUGH
from gateway.routing.line import Claim, Ticket
from tests.unit.gateway import stories

LENGTH = 100


def full(name: str = "w0", most: int = 1, model: str = "chat") -> Backend:
    backend = stories.backend()
    backend.worker = replace(backend.worker, name=name, model=model, max_inflight=most)
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


def claim(tenant: str = "acme", *, weight: float = 1.0, rank: int = 1, prompt: int = 100, output: int = 100) -> Claim:
    return Claim(tenant, weight, rank, prompt, output)


def joined(
    room: WaitingRoom,
    *backends: Backend,
    who: Claim | None = None,
    length: int = LENGTH,
    patience: float = 30.0,
    now: float | None = None,
) -> Ticket:
    ticket = room.ticket(who or claim(), backends, time.monotonic() if now is None else now)
    room.join(ticket, length=length, patience=patience)
    return ticket


def waits(
    room: WaitingRoom, *backends: Backend, who: Claim | None = None, length: int = LENGTH, patience: float = 30.0
) -> asyncio.Task[Backend]:
    """In line at once, and in the hands of a task that takes the place."""
    ticket = joined(room, *backends, who=who, length=length, patience=patience)

    async def taken() -> Backend:
        await room.turn(ticket, backends, patience)
        return backends[ticket.place]

    return asyncio.ensure_future(taken())


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_first_place_free_goes_to_the_first_who_came() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        first, second = waits(room, backend), waits(room, backend)
        await turn()
        assert (room.waiting, backend.queue.waiting) == (2, 2)
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
        assert (one.queue.waiting, two.queue.waiting) == (0, 0)
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


def test_who_was_told_to_stop_before_it_got_a_place_gives_it_back_too() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        leaving, staying = waits(room, backend), waits(room, backend)
        await turn()
        leaving.cancel()
        free(backend)  # before it has heard of it
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await staying is backend
        assert backend.promised == 0

    played(story)


def test_patience_ends() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        with pytest.raises(NoTurn) as refused:
            await waits(room, backend, patience=0.01)
        assert (refused.value.status, refused.value.code) == (429, "queue_wait_too_long")
        assert (backend.queue.waiting, room.refused) == (0, {("expired", 1): 1})

    played(story)


def test_who_waited_for_workers_that_have_all_gone_hears_that() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        waiting = waits(room, backend, patience=0.01)
        backend.up = False
        with pytest.raises(Overloaded):
            await waiting
        assert room.refused == {("down", 1): 1}

    played(story)


def test_a_full_queue_refuses_at_once() -> None:
    room, backend = WaitingRoom(), full()
    for _ in range(LENGTH):
        joined(room, backend)
    with pytest.raises(NoTurn) as refused:
        joined(room, backend)
    assert refused.value.code == "queue_full"
    assert room.refused == {("full", 1): 1}


def test_a_hot_tenant_makes_room_for_another() -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        hot = [waits(room, backend, who=claim("hot"), length=3) for _ in range(3)]
        await turn()
        quiet = waits(room, backend, who=claim("quiet"), length=3)
        with pytest.raises(NoTurn) as refused:
            await hot[2]
        assert refused.value.code == "queue_full"
        assert room.waiting == 3
        with pytest.raises(NoTurn):  # it would have as many as the hot one
            joined(room, backend, who=claim("quiet"), length=3)
        for waiting in (hot[0], quiet, hot[1]):  # it has been served least
            free(backend)
            assert await waiting is backend
            take(backend)

    played(story)


def test_nobody_has_to_go_for_a_lower_class() -> None:
    room, backend = WaitingRoom(), full()
    for _ in range(2):
        joined(room, backend, who=claim("chat", rank=0), length=2)
    with pytest.raises(NoTurn):
        joined(room, backend, who=claim("jobs", rank=2), length=2)
    assert room.refused == {("full", 2): 1}


def taught(backend: Backend, seconds: float, until: float) -> None:
    """Places came free at this pace of late."""
    for place in range(ENOUGH, -1, -1):
        backend.turnover.given(until - place * seconds, more=place > 0)


def test_a_wait_that_would_be_too_long_is_not_begun() -> None:
    room, backend = WaitingRoom(), full()
    taught(backend, 2.0, time.monotonic())
    with pytest.raises(NoTurn) as refused:
        joined(room, backend, patience=1.5)
    assert refused.value.code == "queue_wait_too_long"
    assert refused.value.retry_after == pytest.approx(2.0)
    assert room.waiting == 0


def test_an_old_pace_refuses_nobody() -> None:
    room, backend = WaitingRoom(), full()
    taught(backend, 2.0, time.monotonic() - 40.0)
    assert joined(room, backend, patience=1.5).expected is None


def test_the_expected_wait_is_the_position_over_the_pace_of_all_its_workers() -> None:
    room, one, two = WaitingRoom(), full("one"), full("two")
    taught(one, 1.0, time.monotonic())
    assert joined(room, one, two).expected is None
    taught(two, 1.0, time.monotonic())
    tickets = [joined(room, one, two) for _ in range(3)]
    assert [ticket.position for ticket in tickets] == [2, 3, 4]
    assert [ticket.expected for ticket in tickets] == pytest.approx([1.0, 1.5, 2.0])


def test_a_tenants_own_pace_counts_where_it_is_slower() -> None:
    """Others come and go first: what is in the line now does not tell."""
    room, backend = WaitingRoom(), full()
    for _ in range(30):
        joined(room, backend, who=claim("usual"))
    for second in range(40):
        if second % 4:
            joined(room, backend, who=claim("chat", rank=0))
        backend.inflight -= 1
        backend.let_in(second)
        take(backend)
        backend.promised -= 1
    ticket = joined(room, backend, who=claim("usual"), patience=1e9, now=40.0)
    assert (ticket.position, ticket.expected) == (21, pytest.approx(21 * 4.0, rel=0.05))


def test_the_pace_is_learnt_from_places_that_come_free_while_somebody_waits() -> None:
    room, backend = WaitingRoom(), full()
    for _ in range(ENOUGH + 1):
        joined(room, backend)
    now = 1000.0
    for _ in range(ENOUGH + 1):
        assert backend.turnover.seconds(now) is None
        backend.inflight -= 1
        backend.let_in(now)
        now += 0.5
    assert backend.turnover.seconds(now) == pytest.approx(0.5)


def test_what_it_did_corrects_what_a_request_was_charged() -> None:
    """The tenant whose answer was short goes again, before the one whose was long."""

    async def story(room: WaitingRoom) -> None:
        backend = full(most=2)
        dispatches = []
        for tenant in ("short", "long"):
            waiting = joined(room, backend, who=claim(tenant))
            free(backend)
            await room.turn(waiting, [backend], 1.0)
            dispatch = stories.dispatch(backend)
            dispatch.charge = waiting.charge
            dispatches.append(dispatch)
        last = [joined(room, backend, who=claim(tenant)) for tenant in ("long", "short")]
        dispatches[1].close("ok", Usage(100, 0, 5000))
        assert [ticket.state for ticket in last] == ["waiting", "given"]
        dispatches[0].close("ok", Usage(100, 0, 1))
        for ticket in last:
            await room.turn(ticket, [backend], 1.0)

    played(story)


def test_two_models_are_two_contests() -> None:
    """What a tenant had of one model's workers does not put it behind before another's."""
    room, chat, code = WaitingRoom(), full("one"), full("two", model="code")
    for _ in range(3):
        joined(room, chat, who=claim("acme"))
    joined(room, chat, who=claim("globex"))
    free(chat)
    waiting = [joined(room, code, who=claim(tenant)) for tenant in ("acme", "globex")]
    assert [ticket.position for ticket in waiting] == [1, 2]
    assert joined(room, chat, who=claim("globex")).position == 3


@pytest.mark.parametrize("change", [{"up": False}, {"draining": True}, {"silent": True}])
def test_a_worker_that_takes_no_requests_lets_nobody_in(change: dict[str, Any]) -> None:
    async def story(room: WaitingRoom) -> None:
        backend = full()
        waiting = waits(room, backend)
        await turn()
        for name, value in change.items():
            setattr(backend, name, value)
        free(backend)
        assert backend.promised == 0
        backend.up, backend.draining, backend.silent = True, False, False
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
