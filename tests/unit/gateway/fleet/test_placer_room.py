"""How one worker's adapters are loaded, and what does not cost another its place."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.engines.dialect import Order
from gateway.engines.vllm import Vllm
from gateway.errors import AdapterNotLoaded
from gateway.fleet.placer import Placer
from gateway.routing.placement import Placement, Shelf
from gateway.table import Adapter
from tests.adapter_files import write_adapter
from tests.unit.gateway.fleet.conftest import make_backend, worker

NAMES = {"a": "chat:a@1", "b": "chat:b@1"}


class Told:
    """What an engine was told, and what it says to it."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, str]] = []
        self.refuses: set[str] = set()
        self.gates: dict[str, asyncio.Event] = {}  # by what was told
        self.arrived = asyncio.Event()

    async def order(self, order: Order, within: float) -> tuple[int, bytes]:
        what, name = order.path.split("/")[-1].split("_")[0], order.body["lora_name"]
        self.orders.append((what, name))
        self.arrived.set()
        if what in self.gates:
            await self.gates[what].wait()
        if what == "load" and name in self.refuses:
            message = f"Loading lora {name} failed: {order.body['lora_path']} is not a valid adapter."
            return 400, orjson.dumps({"error": {"message": message, "code": 400}})
        return 200, b""


def placer(told: Told, placement: Placement, name: str = "w", room: int = 1) -> Placer:
    shelf = Shelf(room, NAMES)
    shelf.placement = placement
    placement.renew({**placement.members, name: shelf})
    prober: Any = told

    async def find_name(model: str, adapter: Adapter) -> str:
        return NAMES[adapter.name]

    return Placer(make_backend(worker(name)), shelf, Vllm(), prober, find_name, lambda: None, lambda *_: None)


def adapter(name: str, path: str = "/nowhere", **more: Any) -> Adapter:
    return Adapter(name, path, None, "1", **more)


async def use(one: Placer, of: Adapter) -> None:
    one._shelf.leave(await one.bring(of, 5.0, lambda: False), 0.0)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("examined", [True, False])
def test_what_the_gateway_sees_to_be_broken_costs_no_other_its_place(tmp_path: Path, examined: bool) -> None:
    path = write_adapter(tmp_path / "b")
    (path / "adapter_model.safetensors").write_bytes(b"no tensors")

    async def story() -> None:
        told = Told()
        one = placer(told, Placement())
        await use(one, adapter("a"))
        for _ in range(3):
            with pytest.raises(AdapterNotLoaded, match=r"not whole, or no safetensors file\.$"):
                await use(one, adapter("b", str(path), examined=examined))
        assert told.orders == [("load", "chat:a@1")]
        assert one.backend.adapters == {"a": "chat:a@1"}

    asyncio.run(story())


def test_after_a_failure_no_other_worker_makes_room_for_it() -> None:
    async def story() -> None:
        told, other, placement = Told(), Told(), Placement()
        one, two = placer(told, placement), placer(other, placement, "w2")
        told.refuses = other.refuses = {"chat:b@1"}
        await use(one, adapter("a"))
        await use(two, adapter("a"))
        with pytest.raises(AdapterNotLoaded, match=r"its path is not a valid adapter\.$"):
            await use(one, adapter("b"))
        assert told.orders == [("load", "chat:a@1"), ("unload", "chat:a@1"), ("load", "chat:b@1")]
        with pytest.raises(AdapterNotLoaded, match="valid adapter"):
            await use(two, adapter("b"))
        assert other.orders == [("load", "chat:a@1")]
        failure = placement.members["w"].failure("b")
        assert failure is not None
        placement.members["w"].failed(failure.name, "b", failure.why, 0.0)
        with pytest.raises(AdapterNotLoaded):  # a second failure there: its files may be here alone
            await use(two, adapter("b"))
        assert other.orders[-1] == ("load", "chat:b@1")

    asyncio.run(story())


def test_one_that_is_being_unloaded_is_loaded_after_that() -> None:
    async def story() -> None:
        told = Told()
        one = placer(told, Placement(), room=2)
        await use(one, adapter("a"))
        told.gates["unload"] = asyncio.Event()
        told.arrived.clear()
        one.unload("chat:a@1")
        await told.arrived.wait()
        again = asyncio.create_task(one.bring(adapter("a"), 5.0, lambda: False))
        await asyncio.sleep(0)
        told.gates["unload"].set()
        assert await again == "chat:a@1"
        assert told.orders == [("load", "chat:a@1"), ("unload", "chat:a@1"), ("load", "chat:a@1")]
        assert one.backend.adapters == {"a": "chat:a@1"}

    asyncio.run(story())


def test_a_load_whose_place_is_gone_is_no_error() -> None:
    async def story() -> None:
        told = Told()
        one = placer(told, placement := Placement())
        told.gates["load"] = asyncio.Event()
        coming = asyncio.create_task(one.bring(adapter("a"), 5.0, lambda: False))
        await told.arrived.wait()
        placement.members["w"].gone("chat:a@1")
        told.gates["load"].set()
        assert await coming == "chat:a@1"

    asyncio.run(story())
