"""A load as a value: divided among processes it is still the same load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from threading import Thread
from typing import Self

import pytest

from loadtests.client import Target, chat_request
from loadtests.jobs import Closed, Idle, Job, Open, Paced, Replay, run_job
from loadtests.prompts import Writer
from loadtests.run import Run
from loadtests.schedule import poisson
from loadtests.standin import Behaviour, Standin
from loadtests.trace import Call

NOWHERE = Target("http://127.0.0.1:9")
ARRIVALS = tuple(poisson(50, 1.0, seed=1))
CALLS = tuple(Call(at, 1, 1, ()) for at in ARRIVALS)

JOBS: list[Job] = [
    Closed(NOWHERE, b"", 10, 1.0, 0.0, False, 7),
    Open(NOWHERE, b"", ARRIVALS, 10, 0.0, False, 7),
    Paced(NOWHERE, b"", 10, 1.0, 0.0, 7),
    Idle(NOWHERE, b"", 10, 1.0, 7),
    Replay(Writer(NOWHERE, "m"), CALLS, 10, 0.0, 7),
]


@pytest.mark.parametrize("job", JOBS)
def test_shares_add_up_to_the_whole_and_one_watches_the_process(job: Job) -> None:
    shares = [job.share(number, 3) for number in range(3)]
    assert sum(share.size for share in shares) == job.size == 10
    assert [share.pid for share in shares] == [7, None, None]  # type: ignore[attr-defined]


def test_arrivals_are_those_of_one_process() -> None:
    job = JOBS[1]
    assert isinstance(job, Open)
    assert sorted(chain.from_iterable(job.share(n, 3).arrivals for n in range(3))) == list(ARRIVALS)


@dataclass(frozen=True)
class Failing:
    """A job that one of its processes can not do."""

    number: int = 0

    @property
    def size(self) -> int:
        return 2

    def share(self, number: int, of: int) -> Self:
        return replace(self, number=number)

    async def run(self, ready: Callable[[], None]) -> Run:
        if self.number:
            raise ConnectionRefusedError("nobody there")
        ready()
        return Run(1.0)


def test_a_generator_that_fails_does_not_leave_the_others_waiting() -> None:
    with pytest.raises(RuntimeError, match="a load generator failed"):
        run_job(Failing(), 2)


@pytest.mark.parametrize("processes", [0, 11])
def test_a_load_is_not_divided_into_nothing(processes: int) -> None:
    with pytest.raises(ValueError, match="among 1 to 10 processes"):
        run_job(JOBS[0], processes)


def test_several_processes_load_one_worker_at_once() -> None:
    """The worker runs in a thread: generators are processes, and this one waits for them."""
    loop = asyncio.new_event_loop()
    worker = Standin(behaviour=Behaviour(header_delay=0.05))
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(worker.__aenter__(), loop).result(10)
        target = Target(worker.url)
        request = chat_request(target, "standin", stream=False, tokens=4)
        run = run_job(Open(target, request, (0.0, 0.01, 0.02, 0.03, 0.04), 5, 0.0, False, None), 2)
        assert (run.requests, dict(run.errors)) == (5, {})
        assert run.latency.p50 >= 0.05
        asyncio.run_coroutine_threadsafe(worker.__aexit__(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
