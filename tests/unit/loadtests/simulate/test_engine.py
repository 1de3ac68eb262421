"""One worker, held against times worked out by hand."""

from __future__ import annotations

import math

import pytest

from loadtests.simulate.engine import Engine, Event, Job, Worker
from loadtests.simulate.traffic import Request

PLAIN = Engine(prefill=1_000.0, chunk=100, interval=0.1, interval_each=0.01, batch=8, blocks=100, decode=False)
DECODES = PLAIN._replace(decode=True)


def request(
    number: int, prompt: int = 1_000, output: int = 1, blocks: tuple[int, ...] = (), adapter: str = ""
) -> Request:
    return Request(number, 0.0, prompt, output, blocks, adapter=adapter)


def drain(worker: Worker) -> list[tuple[float, int, Event]]:
    """Everything that happens from now on: when, to which request, what."""
    seen: list[tuple[float, int, Event]] = []
    while (when := worker.next) < math.inf:
        seen += [(when, job.request.number, event) for job, event in worker.advance(when)]
    return seen


def firsts(worker: Worker) -> list[float]:
    return [when for when, _, event in drain(worker) if event == "first"]


def added(worker: Worker, one: Request) -> Job:
    job = worker.add(one)
    assert job is not None
    return job


def test_prompts_are_computed_one_after_the_other() -> None:
    worker = Worker(PLAIN)
    for number, prompt in enumerate((1_000, 500, 2_000)):
        added(worker, request(number, prompt))
    assert firsts(worker) == pytest.approx([1.0, 1.5, 3.5])
    assert worker.prefilled == pytest.approx(3_500)
    assert worker.busy == pytest.approx(3.5)


def test_one_that_comes_later_waits_for_what_is_left() -> None:
    worker = Worker(PLAIN)
    added(worker, request(0))
    worker.advance(0.4)
    assert worker.done_of_head(0.4) == pytest.approx(400)
    assert worker.done_of_head(0.7) == pytest.approx(700)
    added(worker, request(1, 100))
    assert firsts(worker) == pytest.approx([1.0, 1.1])


def test_a_known_beginning_is_not_computed_again_but_its_last_token_is() -> None:
    worker = Worker(PLAIN)
    same = request(1, 1_024, blocks=(1, 2))
    jobs = [added(worker, one) for one in (request(0, 1_100, blocks=(1, 2, 3)), same, same)]
    assert firsts(worker) == pytest.approx([1.1, 1.101, 1.102])
    assert [job.cached for job in jobs] == [0, 1_023, 1_023]


def test_an_answer_takes_an_interval_for_each_token_after_the_first() -> None:
    worker = Worker(DECODES)
    added(worker, request(0, 1_000, 11))
    [(first, _, _), (end, _, _)] = drain(worker)
    assert first == pytest.approx(1.0)
    assert end == pytest.approx(2.0)
    assert worker.decoded == 11


def test_a_step_that_prefills_and_decodes_takes_as_long_as_both() -> None:
    """The second prompt is 10 steps of 100 tokens; each is 0.1 s of prefill and 0.1 s of decode, and gives the first
    answer a token."""
    worker = Worker(DECODES)
    added(worker, request(0, 1_000, 16))
    added(worker, request(1, 1_000, 6))
    seen = [(number, event, when) for when, number, event in drain(worker)]
    # The answers then have 5 tokens left each, at 0.11 s.
    expected = [(0, "first", 1.0), (1, "first", 3.0), (0, "end", 3.55), (1, "end", 3.55)]
    assert [one[:2] for one in seen] == [one[:2] for one in expected]
    assert [one[2] for one in seen] == pytest.approx([one[2] for one in expected])


def test_no_more_than_the_batch_is_taken_in() -> None:
    worker = Worker(DECODES._replace(batch=1))
    added(worker, request(0, 1_000, 11))
    added(worker, request(1, 1_000, 1))
    assert (worker.running, len(worker.waiting)) == (1, 1)
    assert firsts(worker) == pytest.approx([1.0, 3.0])


def test_a_prompt_waits_for_room_in_the_kv_cache() -> None:
    """Each needs 3 blocks with its answer, of 4."""
    worker = Worker(DECODES._replace(blocks=4))
    added(worker, request(0, 1_000, 101, blocks=(1, 2)))
    added(worker, request(1, 1_000, 101, blocks=(3, 4)))
    assert firsts(worker) == pytest.approx([1.0, 12.0])
    assert worker.kv_usage == 0.0


def test_what_can_never_fit_is_refused() -> None:
    worker = Worker(DECODES._replace(blocks=2))
    assert worker.add(request(0, 1_000, 100, blocks=(1, 2))) is None
    assert worker.next == math.inf


def test_a_slow_worker_takes_as_many_times_longer() -> None:
    worker = Worker(DECODES)
    worker.slowness = 3.0
    added(worker, request(0, 1_000, 11))
    assert [when for when, _, _ in drain(worker)] == pytest.approx([3.0, 6.0])


def test_an_adapter_is_loaded_once_and_goes_when_another_needs_its_place() -> None:
    worker = Worker(PLAIN._replace(adapters=1, adapter_load=2.0))
    for number, adapter in enumerate(("a", "a", "", "b", "a")):
        added(worker, request(number, adapter=adapter))
    assert firsts(worker) == pytest.approx([3.0, 4.0, 5.0, 8.0, 11.0])
    assert worker.loads == 3


def test_an_adapter_waits_while_all_places_are_in_use() -> None:
    worker = Worker(DECODES._replace(adapters=1, adapter_load=0.0))
    added(worker, request(0, 1_000, 11, adapter="a"))
    added(worker, request(1, 1_000, 1, adapter="b"))
    assert firsts(worker) == pytest.approx([1.0, 3.0])


def test_a_dead_worker_gives_up_all_it_had() -> None:
    worker = Worker(DECODES)
    for number in range(3):
        added(worker, request(number, 1_000, 100, blocks=(number,)))
    worker.advance(1.0)
    worker.advance(1.5)
    lost = worker.die()
    assert sorted(job.request.number for job in lost) == [0, 1, 2]
    assert [job.request.number for job in lost if job.first is not None] == [0]
    assert worker.next == math.inf
    assert worker.kv_usage == 0.0
