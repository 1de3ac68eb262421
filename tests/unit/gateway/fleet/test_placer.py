"""Waiting for a worker to load an adapter; what is loaded where is on the wire."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.engines import DIALECTS
from gateway.errors import AdapterNotLoaded
from gateway.fleet.placer import Placer
from gateway.routing.placement import Shelf
from gateway.table import Adapter
from tests.unit.gateway.stories import backend

SQL = Adapter("sql", "adapters/sql", "1")


class Engine:
    """Loads when it is let."""

    def __init__(self) -> None:
        self.asked, self.gate = asyncio.Event(), asyncio.Event()

    async def order(self, *_: object) -> tuple[int, bytes]:
        self.asked.set()
        await self.gate.wait()
        return 200, b"{}"


async def named(*_: object) -> str:
    return "chat:sql@1"


def placer(engine: Engine, shelf: Shelf) -> Placer:
    dialect: Any = DIALECTS["vllm"]
    worker = backend(shelf=shelf)
    return Placer(worker, shelf, dialect, engine, named, lambda: None, lambda *_: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"silent": True}, {"up": False}])
def test_who_can_go_elsewhere_does_not_wait_for_a_worker_that_is_away(change: dict[str, bool]) -> None:
    async def story() -> None:
        engine, shelf = Engine(), Shelf(2, {"sql": "chat:sql@1"})
        one = placer(engine, shelf)
        waiting = [
            asyncio.create_task(one.bring(SQL, 60.0, lambda may_leave=may_leave: may_leave))
            for may_leave in (True, False)
        ]
        await engine.asked.wait()
        for name, value in change.items():
            setattr(one.backend, name, value)
        with pytest.raises(AdapterNotLoaded, match="does not answer"):
            await waiting[0]
        assert shelf.using == {"chat:sql@1": 1}
        engine.gate.set()
        assert await waiting[1] == "chat:sql@1", "the load goes on for those who stay"
        await one.close()

    asyncio.run(story())
