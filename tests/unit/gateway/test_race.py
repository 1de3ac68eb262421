"""What only happens when two workers answer in the very same turn of the loop; all else about races is on the wire."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from gateway.call import Call
from gateway.ledger.record import Outcome
from gateway.protocol.usage import NO_USAGE
from gateway.race import Race, Racing
from gateway.routing.types import Plan
from gateway.table import Candidate, Hedge
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
            winner: Call = await Race(racing, made, made.admitted._replace(plan=plan)).winner()
        assert settlement.others == ["hedged"]
        assert sorted(response.aborted for response in asked) == [False, True]
        assert winner.response is not None
        assert not winner.response.aborted  # type: ignore[attr-defined]
        assert sum(backend.inflight for backend in backends) == 1

    asyncio.run(story())
