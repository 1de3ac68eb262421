"""When requests arrived: a loop played by hand, and a busy one on real sockets."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import uvloop

from gateway.downstream.arrivals import Arrivals, arrivals_of
from gateway.downstream.exchange import Exchange
from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.downstream.front import Front, echo, request


class Loop:
    """Turns of an event loop: what is due first, then a look at the sockets."""

    def __init__(self) -> None:
        self.time = 100.0
        self.due: list[Callable[[], None]] = []
        self.arrivals = Arrivals(self.due.append, lambda: self.time)

    def turn(self, *, work: float = 0.0) -> None:
        """Runs what is due and then works for so long."""
        due = list(self.due)
        self.due.clear()
        for call in due:
            call()
        self.time += work


def test_what_is_read_in_one_turn_arrived_when_the_loop_woke_for_it() -> None:
    loop = Loop()
    assert loop.arrivals.now() == 100.0
    loop.time += 5
    assert loop.arrivals.now() == 100.0


def test_what_is_found_after_work_came_during_it() -> None:
    loop = Loop()
    loop.arrivals.now()
    loop.turn(work=8)
    assert loop.arrivals.now() == 104.0
    loop.turn(work=2)
    assert loop.arrivals.now() == 109.0  # between 108 and 110


def test_what_is_found_after_a_rest_has_just_come() -> None:
    loop = Loop()
    loop.arrivals.now()
    loop.turn(work=8)
    loop.turn()
    loop.time += 50
    assert loop.arrivals.now() == 158.0
    assert len(loop.due) == 1
    loop.turn()
    loop.turn()
    assert loop.due == []


def test_a_request_that_comes_while_the_loop_works_arrived_before_the_work_was_over() -> None:
    worked_until = 0.0

    async def story() -> None:
        async def handler(exchange: Exchange) -> None:
            nonlocal worked_until
            if exchange.body == b"first":
                os.write(second.writer.get_extra_info("socket").fileno(), request(b"second"))
                while time.monotonic() < exchange.arrived + 0.1:
                    pass
                worked_until = time.monotonic()
            await echo(exchange)

        async with Front(handler) as front, await front.client() as first, await front.client() as second:
            before = time.monotonic()
            await first.ask(b"first")
            await second.reply()
            arrived = [exchange.arrived for exchange in front.seen]
            assert before < arrived[0] < arrived[1] < worked_until

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


@dialogue
async def test_a_request_has_arrived_when_all_of_it_has() -> None:
    async with Front() as front, await front.client() as client:
        client.say(request(b"12345")[:-2])
        while not front.connections or next(iter(front.connections)).cycle is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)  # the loop rests: nothing it finds next can have come before
        before = time.monotonic()
        client.say(b"45")
        await client.reply()
        assert before < front.seen[0].arrived <= time.monotonic()
        assert arrivals_of(asyncio.get_running_loop()) is arrivals_of(asyncio.get_running_loop())
