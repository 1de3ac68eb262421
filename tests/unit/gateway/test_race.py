"""Two workers that answer in the very same turn of the loop, and who is asked when workers fall silent after the plan
was made; all else about races is on the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.call import Call
from gateway.errors import AdapterNotLoaded, WorkerTimeout
from gateway.fleet.backend import Backend
from gateway.ledger.record import Outcome
from gateway.protocol.usage import NO_USAGE
from gateway.race import Race, Racing
from gateway.routing.placement import Shelf
from gateway.routing.types import Plan, Step
from gateway.table import Candidate, Hedge, Retry
from tests.unit.gateway import stories
from tests.unit.gateway.routing.tables import route


class Response:
    """A stream that has begun."""

    status = 200
    read_at = 0.0

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.aborted = False

    def header(self, name: bytes) -> bytes:
        return b"text/event-stream"

    async def take(self) -> bytes:
        return b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'

    def abort(self) -> None:
        self.aborted = True


class Pool:
    """Answers when the other one does."""

    def __init__(self, together: asyncio.Barrier, asked: list[Response]) -> None:
        self._together, self._asked = together, asked

    async def request(self, *_: object) -> Response:
        response = Response()
        self._asked.append(response)
        await self._together.wait()
        return response


class Settlement:
    def __init__(self) -> None:
        self.others: list[Outcome] = []

    def begun(self, trace: Any, admitted: Any, dispatch: Any) -> None:
        pass

    def other_attempt(self, trace: Any, dispatch: Any, outcome: Outcome, error: Any) -> None:
        dispatch.close(outcome, NO_USAGE)
        self.others.append(outcome)


def test_of_two_that_answer_together_one_is_stopped() -> None:
    async def story() -> None:
        together = asyncio.Barrier(2)
        asked: list[Response] = []
        backends = [stories.backend(), stories.backend()]
        for backend in backends:
            backend.pool = Pool(together, asked)  # type: ignore[assignment]
        made = stories.trace(stories.exchange(stories.Transport()), stream=True)
        made.exchange.arrived = time.monotonic()
        assert made.admitted is not None
        hedged = route("soon", Candidate("chat", "a"), hedge=Hedge(None, 0.001, 1.0))
        plan = Plan(hedged, "", tuple(stories.step(backend) for backend in backends), ())
        settlement = Settlement()
        racing = Racing(None, settlement)  # type: ignore[arg-type]
        async with asyncio.timeout(30):
            winner: Call = await Race(racing, made, stories.replanned(made.admitted, plan)).winner()
        assert settlement.others == ["hedged"]
        assert sorted(response.aborted for response in asked) == [False, True]
        assert winner.response is not None
        assert not winner.response.aborted  # type: ignore[attr-defined]
        assert sum(backend.inflight for backend in backends) == 1

    asyncio.run(story())


class Mute:
    """Says nothing until it is told to; the asker is whoever waits."""

    def __init__(self, *, answers: bool = False) -> None:
        self.answers = answers
        self.asked = asyncio.Event()
        self.askers: list[Any] = []
        self.failed: asyncio.Future[None] | None = None

    async def request(self, *arguments: Any) -> Response:
        self.askers.append(arguments[-1])
        self.asked.set()
        if not self.answers:
            self.failed = asyncio.get_running_loop().create_future()
            await self.failed
        return Response()


class Loads:
    """The fleet of workers whose first load takes until it `is_over`."""

    def __init__(self) -> None:
        self.adapters = self
        self.brought: list[Backend] = []
        self.asked, self.is_over = asyncio.Event(), asyncio.Event()

    async def bring(self, backend: Backend, adapter: str, within: float, may_leave: Callable[[], bool]) -> str:
        self.brought.append(backend)
        self.asked.set()
        await self.is_over.wait()
        if backend.silent and may_leave():
            raise AdapterNotLoaded("its worker does not answer")
        assert backend.shelf is not None
        backend.shelf.enter(f"chat:{adapter}")
        return f"chat:{adapter}"


def site(*backends: Backend, retry: Retry | None = None, steps: tuple[Step, ...] = ()) -> tuple[Race, Settlement, Any]:
    """One request's race, and the workers as in its plan."""
    made = stories.trace(stories.exchange(stories.Transport()), stream=True)
    made.exchange.arrived = time.monotonic()
    assert made.admitted is not None
    chosen = route("r", Candidate("chat", "a"), retry=retry or Retry(2, 1.0))
    plan = Plan(chosen, "", steps or tuple(stories.step(one) for one in backends), ())
    settlement = Settlement()
    racing = Racing(Loads(), settlement)  # type: ignore[arg-type]
    return Race(racing, made, stories.replanned(made.admitted, plan)), settlement, racing


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def mute(**state: Any) -> Backend:
    made = stories.backend(**state)
    made.pool = Mute()  # type: ignore[assignment]
    return made


def talking(**state: Any) -> Backend:
    made = mute(**state)
    made.pool.answers = True  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize("away", [{"silent": True}, {"up": False}, {"draining": True}])
def test_who_is_away_since_the_plan_is_not_asked_while_another_is_there(away: dict[str, Any]) -> None:
    async def story() -> None:
        first, second = talking(**away), talking()
        race, settlement, _ = site(first, second)
        winner = await race.winner()
        assert winner.dispatch.backend is second
        assert settlement.others == []

    asyncio.run(story())


def test_the_last_one_is_asked_even_when_it_is_silent() -> None:
    async def story() -> None:
        first, second = talking(silent=True), talking(up=False)
        race, _, _ = site(first, second)
        assert (await race.winner()).dispatch.backend is first

    asyncio.run(story())


def test_a_request_waits_for_a_place_rather_than_go_to_a_silent_worker() -> None:
    async def story() -> None:
        silent, full = talking(silent=True), talking(most_cold=1, inflight=1)
        race, _, racing = site(silent, full)
        winner = asyncio.create_task(race.winner())
        await turns()
        assert racing.room.waiting == 1
        full.inflight = 0
        full.let_in(time.monotonic())
        assert (await winner).dispatch.backend is full

    asyncio.run(story())


def test_a_request_leaves_a_worker_that_fell_silent_as_a_retry() -> None:
    async def story() -> None:
        first, second = mute(), talking()
        race, settlement, racing = site(first, second)
        winner = asyncio.create_task(race.winner())
        pool: Any = first.pool
        await pool.asked.wait()
        (asker,) = pool.askers
        first.silent = True
        retries = racing.pace.allowances("r").retries
        saved = retries._saved
        assert asker.may_leave()
        pool.failed.set_exception(WorkerTimeout("silent"))
        assert (await winner).dispatch.backend is second
        assert settlement.others == ["failed"]
        assert retries._saved == saved - 1.0, "one retry, taken once"
        assert (first.inflight, second.inflight) == (0, 1)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("other", "retry"),
    [
        ({"silent": True}, Retry(2, 1.0)),
        ({"up": False}, Retry(2, 1.0)),
        ({"most_cold": 1, "inflight": 1}, Retry(2, 1.0)),
        ({}, Retry(0, 1.0)),
    ],
)
def test_nobody_leaves_for_nowhere(other: dict[str, Any], retry: Retry) -> None:
    async def story() -> None:
        first, second = mute(), talking(**other)
        race, _, racing = site(first, second, retry=retry)
        winner = asyncio.create_task(race.winner())
        pool: Any = first.pool
        await pool.asked.wait()
        first.silent = True
        saved = racing.pace.allowances("r").retries._saved
        assert not pool.askers[0].may_leave()
        assert racing.pace.allowances("r").retries._saved == saved
        winner.cancel()
        await asyncio.wait([winner])

    asyncio.run(story())


def test_nobody_leaves_without_the_budget_for_a_retry() -> None:
    async def story() -> None:
        first, second = mute(), talking()
        race, _, racing = site(first, second, retry=Retry(2, 0.0))
        while racing.pace.allowances("r").retries.take():
            pass
        winner = asyncio.create_task(race.winner())
        pool: Any = first.pool
        await pool.asked.wait()
        first.silent = True
        assert not pool.askers[0].may_leave()
        winner.cancel()
        await asyncio.wait([winner])

    asyncio.run(story())


@pytest.mark.parametrize("count", [2, 1])
def test_a_wait_for_a_load_is_given_up_for_a_worker_that_is_there(count: int) -> None:
    async def story() -> None:
        backends = [talking(shelf=Shelf(2, {"sql": "chat:sql"})) for _ in range(count)]
        steps = tuple(Step(one, Candidate("chat", "a", "sql"), "", 0.0, 0.0, 0.0) for one in backends)
        race, _, racing = site(steps=steps)
        loads: Any = racing.fleet
        winner = asyncio.create_task(race.winner())
        await loads.asked.wait()
        backends[0].silent = True
        loads.is_over.set()
        assert (await winner).dispatch.backend is backends[-1]
        assert loads.brought == backends

    asyncio.run(story())
