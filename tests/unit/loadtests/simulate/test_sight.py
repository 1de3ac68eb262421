"""What a gateway takes the workers to be doing, by each kind of knowledge."""

from __future__ import annotations

import math
from typing import Any

import pytest

from loadtests.simulate.engine import Engine, Worker
from loadtests.simulate.sight import AWAY_SECONDS, Books, Load, Reading, gauges
from loadtests.simulate.traffic import Request

ENGINE = Engine(prefill=1_000.0, decode=False)


def request(number: int, prompt: int = 1_000, blocks: tuple[int, ...] = ()) -> Request:
    return Request(number, 0.0, prompt, 1, blocks)


def books(load: Load, count: int = 2) -> tuple[Books, list[Worker]]:
    workers = [Worker(ENGINE) for _ in range(count)]
    return Books(count, load, 100, [1_000.0] * count, workers), workers


def reading(at: float, **said: Any) -> Reading:
    return Reading(**{"at": at, "up": True, "waiting": 0, "running": 0, "kv_usage": 0.0, "pending": 0.0, **said})


def seen(of: Books, now: float) -> list[tuple[float, int, int]]:
    """Pending tokens, queue and requests in flight of each worker."""
    sight = of.sight(request(99), (), now)
    pending = [round(tokens, 6) for tokens in sight.pending]
    return list(zip(pending, sight.queued, sight.inflight, strict=True))


@pytest.mark.parametrize("load", ["own", "live"])
def test_what_was_dispatched_is_pending_until_its_first_token_less_what_was_computed(load: Load) -> None:
    one, workers = books(load)
    for number in (0, 1):
        one.dispatched(0, request(number), 0.0, 0.0)
        workers[0].add(request(number))
    assert seen(one, 0.0) == [(2_000, 2, 2), (0, 0, 0)]
    assert seen(one, 0.25)[0] == (1_750, 2, 2)
    workers[0].advance(1.0)
    one.first(0, request(0), 1.0)
    assert seen(one, 1.5)[0] == (500, 1, 2)
    one.ended(0, request(0), 1.5)
    assert seen(one, 1.5)[0] == (500, 1, 1)


def test_only_a_live_account_knows_that_a_worker_is_slow() -> None:
    own, _ = books("own")
    live, workers = books("live")
    for one in (own, live):
        one.dispatched(0, request(0), 0.0, 0.0)
    workers[0].slowness = 4.0
    workers[0].add(request(0))
    assert seen(own, 0.8)[0][0] == 200
    assert seen(live, 0.8)[0][0] == 800
    assert seen(own, 3.0)[0][0] == 0


def test_an_account_by_polls_is_as_old_as_they_are() -> None:
    one, _ = books("poll")
    one.polled(0, reading(1.0, waiting=2, running=1, pending=500.0))
    one.dispatched(0, request(0), 1.1, 1.1)
    assert seen(one, 5.0) == [(500, 2, 3), (0, 0, 0)]


def test_an_account_by_both_adds_what_was_dispatched_since() -> None:
    one, _ = books("both")
    one.dispatched(0, request(0), 0.9, 0.9)
    one.polled(0, reading(1.0, waiting=1, running=1, pending=500.0))
    one.dispatched(0, request(1), 1.2, 1.2)
    assert seen(one, 1.2)[0] == (1_300, 2, 3)
    assert seen(one, 2.2)[0] == (300, 2, 3)


def test_what_another_gateway_did_before_the_poll_is_not_counted_twice() -> None:
    one, _ = books("both")
    one.polled(0, reading(1.0, waiting=1, pending=1_000.0))
    one.dispatched(0, request(0), 1.1, 0.9)
    assert seen(one, 1.1)[0] == (900, 1, 1)
    one.dispatched(0, request(1), 1.1, 1.05)
    assert seen(one, 1.1)[0] == (1_900, 2, 2)


def test_what_was_sent_somewhere_is_taken_to_be_cached_there() -> None:
    one, _ = books("own")
    assert one.dispatched(0, request(0, 1_024, (1, 2)), 0.0, 0.0) == 1_024
    sight = one.sight(request(1, 1_500, (1, 2, 3)), (), 0.0)
    assert list(sight.matched) == [2, 0]
    assert list(sight.uncached) == [476, 1_500]
    assert one.dispatched(0, request(2, 1_024, (1, 2)), 0.0, 0.0) == 1


def test_a_worker_that_refuses_is_left_out_and_its_cache_forgotten() -> None:
    one, _ = books("own")
    one.dispatched(0, request(0, 512, (1,)), 0.0, 0.0)
    one.failed(0, request(0, 512, (1,)), 1.0)
    sight = one.sight(request(1, 512, (1,)), (), 1.0)
    assert (list(sight.able), list(sight.matched), list(sight.pending)) == ([1], [0, 0], [0.0, 0.0])
    assert list(one.sight(request(1), (1,), 1.0).able) == [0], "the last one is asked all the same"
    assert list(one.sight(request(1), (), 1.0 + AWAY_SECONDS).able) == [0, 1]


def test_polls_say_who_is_there() -> None:
    one, _ = books("both")
    one.polled(1, reading(1.0, up=False))
    assert list(one.sight(request(0), (), 100.0).able) == [0]
    one.polled(1, reading(101.0))
    assert list(one.sight(request(0), (), 101.0).able) == [0, 1]


def test_gauges_say_what_is_left_of_the_prompts() -> None:
    worker = Worker(ENGINE)
    for number in range(3):
        worker.add(request(number, 1_024, (1, 2)))
    worker.advance(0.5)
    said = gauges(worker, 0.5)
    assert (said.up, said.waiting, said.running) == (True, 2, 1)
    assert said.pending == pytest.approx(524 + 2)  # the others' blocks are there or about to be
    worker.die()
    assert gauges(worker, 0.6) == Reading(0.6, False, 0, 0, 0.0, 0.0)
    assert worker.next == math.inf
