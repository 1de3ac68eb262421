"""Drains that hold in every process: several of them on one store, which may be away and may lose what it had."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fleet.drains import Drains, TooManyDrained, open_drain_store
from gateway.fleet.registry import Fleet
from gateway.state.drains import MOST_DRAINED, Drained, DrainsAway, FileDrains, RedisDrains

if TYPE_CHECKING:
    from tests.unit.gateway.fleet.conftest import Kit


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


class Store:
    """Shared by the processes of a test."""

    def __init__(self) -> None:
        self.held = Drained(False, frozenset())
        self.is_away = False

    async def read(self) -> Drained:
        if self.is_away:
            raise DrainsAway("it is away")
        return self.held

    async def change(self, changes: Mapping[str, bool]) -> None:
        if self.is_away:
            raise DrainsAway("it is away")
        names = {*self.held.names, *(name for name in changes if changes[name])}
        self.held = Drained(True, frozenset(names - {name for name in changes if not changes[name]}))

    async def close(self) -> None: ...

    def lose(self) -> None:
        self.held = Drained(False, frozenset())


class Process:
    def __init__(self, kit: Kit, store: Store, *names: str) -> None:
        self.kit = kit
        self.fleet: Fleet = kit.unwatched()
        self.configure(*names)
        self.drains = Drains(store, self.fleet)

    def configure(self, *names: str) -> None:
        self.fleet.apply(self.kit.table(*(self.kit.worker(name) for name in names)))

    @property
    def drained(self) -> list[str]:
        return [backend.worker.name for backend in self.fleet.backends() if backend.draining]


def test_what_one_is_told_the_others_do(kit: Kit) -> None:
    async def story() -> None:
        store = Store()
        one, other = Process(kit, store, "a", "b"), Process(kit, store, "a", "b")
        assert (await one.drains.change("a", True)) in one.fleet.backends()
        assert one.drained == ["a"]
        await other.drains.look()
        assert other.drained == ["a"]
        late = Process(kit, store, "a", "b")
        await late.drains.look()
        assert late.drained == ["a"], "it survives a restart"
        await other.drains.change("a", False)
        for process in (one, late):
            await process.drains.look()
            assert process.drained == []

    run(story())


def test_nobody_of_that_name_changes_nothing(kit: Kit) -> None:
    async def story() -> None:
        store = Store()
        with pytest.raises(KeyError):
            await Process(kit, store, "a").drains.change("b", True)
        assert store.held == Drained(False, frozenset())

    run(story())


def test_it_holds_over_reloads_also_for_a_worker_that_is_away_meanwhile(kit: Kit) -> None:
    async def story() -> None:
        store = Store()
        one, other = Process(kit, store, "a", "b"), Process(kit, store, "a", "b")
        await one.drains.change("a", True)
        await other.drains.look()
        other.configure("b")
        await other.drains.look()
        assert store.held.names == {"a"}, "it is still there for the others"
        other.configure("a", "b", "c")
        assert other.drained == ["a"]
        other.fleet.apply(kit.table(kit.worker("a", url="http://127.0.0.1:2")))
        assert other.drained == ["a"], "at another address it is the same to the operator"

    run(story())


def test_while_the_store_is_away_a_change_holds_here_and_comes_to_the_others_later(kit: Kit) -> None:
    async def story() -> None:
        store = Store()
        one, other = Process(kit, store, "a", "b"), Process(kit, store, "a", "b")
        await one.drains.change("b", True)
        await other.drains.look()
        store.is_away = True
        await one.drains.change("a", True)
        await one.drains.change("b", False)
        assert (one.drained, one.drains.shared, one.drains.away) == (["a"], False, "it is away")
        await other.drains.look()
        assert other.drained == ["b"]
        await one.drains.look()
        assert one.drained == ["a"]
        store.is_away = False
        await one.drains.look()
        await other.drains.look()
        assert (one.drained, other.drained, one.drains.shared) == (["a"], ["a"], True)

    run(story())


def test_a_store_that_lost_what_it_had_is_given_it_again(kit: Kit) -> None:
    async def story() -> None:
        store = Store()
        one, other = Process(kit, store, "a", "b"), Process(kit, store, "a", "b")
        await one.drains.change("a", True)
        await other.drains.look()
        store.lose()
        await other.drains.look()
        assert store.held == Drained(True, frozenset({"a"}))
        assert other.drained == ["a"]
        await one.drains.change("a", False)
        await other.drains.look()
        assert (one.drained, other.drained) == ([], []), "that is not taken for a loss"

    run(story())


def test_a_process_that_does_not_see_a_worker_undoes_no_drain(kit: Kit) -> None:
    async def story() -> None:
        store = Store()
        addresses: dict[str, list[str]] = {"one": ["127.0.0.1"], "other": ["127.0.0.1"]}
        fleets: dict[str, Fleet] = {}
        for name, seen in addresses.items():

            async def resolve(host: str, seen: list[str] = seen) -> list[str]:
                return seen or ["127.0.0.9"]

            fleets[name] = Fleet(kit.make_backend, resolve=resolve)
            fleets[name].apply(kit.table(kit.worker("w", url="dns+http://w.svc:1")))
        one, other = (Drains(store, fleet) for fleet in fleets.values())

        async def look(name: str) -> None:
            (discovery,) = fleets[name].discoveries().values()
            for _ in range(3):
                await discovery.look()

        for name in fleets:
            await look(name)
        await one.change("w-127.0.0.1", True)
        await other.look()
        addresses["other"].clear()
        await look("other")
        assert list(fleets["other"].workers()) == ["w-127.0.0.9"]
        for _ in range(2):
            await other.look()
            await one.look()
        assert store.held.names == {"w-127.0.0.1"}
        assert [backend.draining for backend in fleets["one"].backends()] == [True]
        addresses["other"].append("127.0.0.1")
        await look("other")
        assert [backend.draining for backend in fleets["other"].backends()] == [True], "it comes back drained"
        for fleet in fleets.values():
            await fleet.stop()

    run(story())


def test_one_that_is_gone_can_be_undrained(kit: Kit) -> None:
    async def story() -> None:
        store = Store()
        one, other = Process(kit, store, "a", "b"), Process(kit, store, "b")
        await one.drains.change("a", True)
        assert await other.drains.change("a", False) is None, "it looks who is drained before it says that nobody is"
        assert store.held.names == frozenset()
        await one.drains.look()
        assert one.drained == []
        with pytest.raises(KeyError):
            await other.drains.change("a", False)

    run(story())


def test_no_more_are_drained_than_the_store_keeps(kit: Kit) -> None:
    async def story() -> None:
        store = Store()
        store.held = Drained(True, frozenset(f"gone-{number}" for number in range(MOST_DRAINED)))
        process = Process(kit, store, "a")
        await process.drains.look()
        with pytest.raises(TooManyDrained):
            await process.drains.change("a", True)
        assert process.drained == []
        await process.drains.change("gone-1", False)
        await process.drains.change("a", True)
        assert process.drained == ["a"]

    run(story())


def test_alone_it_is_told_to_nobody(kit: Kit) -> None:
    async def story() -> None:
        fleet = kit.unwatched()
        fleet.apply(kit.table(kit.worker("a")))
        drains = Drains(None, fleet)
        assert (await drains.change("a", True)) in fleet.backends()
        await drains.look()
        await drains.run()
        assert drains.shared
        await drains.close()

    run(story())


# The file


def test_a_file_is_made_by_the_first_change(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "new" / "drains.json"
        store, again = FileDrains(path), FileDrains(path)
        assert await store.read() == Drained(False, frozenset())
        assert not path.parent.exists()
        await store.change({"a": True, "b": True, "c": False})
        assert await again.read() == Drained(True, frozenset({"a", "b"}))
        await again.change({"a": False})
        assert await store.read() == Drained(True, frozenset({"b"}))
        assert path.read_bytes() == b'["b"]'
        assert sorted(one.name for one in path.parent.iterdir()) == ["drains.json", "drains.lock"]

    run(story())


@given(st.binary(max_size=30))
def test_a_file_of_anything_is_a_list_or_away(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)

    async def story() -> None:
        try:
            found = await FileDrains(path).read()
        except DrainsAway as error:
            assert "move it away" in str(error)  # noqa: PT017 - either is right
        else:
            assert found.was_made

    run(story())


def test_a_directory_that_takes_no_file_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def story() -> None:
        with pytest.raises(DrainsAway, match="writable"):
            await FileDrains(tmp_path / "file" / "drains.json").change({"a": True})

    run(story())


def test_changes_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "drains.json"
        names = [f"w-{number}" for number in range(40)]
        await asyncio.gather(*(FileDrains(path).change({name: True}) for name in names))
        assert (await FileDrains(path).read()).names == set(names)

    run(story())


def test_the_store_is_where_the_configuration_says() -> None:
    assert isinstance(open_drain_store("redis://h:1/0", "none"), RedisDrains)
    assert isinstance(open_drain_store("memory://", "none"), FileDrains)
