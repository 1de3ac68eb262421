"""Adapters added by the API: several processes on one store, which may be away and may lose what it had, and the
tables that they make of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fleet.added import MOST_ADDED, AdapterName, Added, Entry, open_adapter_store
from gateway.state.adapters import NOTHING_KEPT, AdaptersAway, FileAdapters, Kept, RedisAdapters
from gateway.table import Adapter, Settings, Table
from tests.unit.gateway.routing.tables import model


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def table(*adapters: str, revision: str = "r1", directories: tuple[str, ...] = ("/srv",), **changes: Any) -> Table:
    """With a model `chat`, which has these adapters by the YAML, and `bare`, which has none."""
    models = {
        "chat": replace(
            model("chat", "v1"), adapters={name: Adapter(name, f"/yaml/{name}", None) for name in adapters}
        ),
        "bare": replace(model("bare", "v1"), adapters={}),
    }
    empty: dict[str, Any] = {key: {} for key in ("gpus", "workers", "aliases", "tenants", "keys")}
    config = Settings(adapter_directories=directories)
    return Table(
        **{
            **empty,
            "revision": revision,
            "directory": Path(),
            "settings": config,
            "models": models,
            "routes": (),
            **changes,
        }
    )


def entry(name: str = "a", model: str = "chat", path: str = "", **more: Any) -> Entry:
    return Entry(model=model, name=name, path=path or f"/srv/{name}", **more)


class Store:
    """Shared by the processes of a test."""

    def __init__(self) -> None:
        self.kept = NOTHING_KEPT
        self.is_away = False
        self.changes = 0

    async def read(self, known: str) -> Kept | None:
        self._answer()
        return None if known and known == self.kept.revision else self.kept

    async def add(self, name: str, entry: str) -> str:
        self._answer()
        if name not in self.kept.entries:
            self._change({**self.kept.entries, name: entry})
        return self.kept.entries[name]

    async def remove(self, name: str) -> bool:
        self._answer()
        was_there = name in self.kept.entries
        if was_there:
            self._change({other: text for other, text in self.kept.entries.items() if other != name})
        return was_there

    async def close(self) -> None: ...

    def _change(self, entries: dict[str, str]) -> None:
        self.changes += 1
        self.kept = Kept(str(self.changes), entries)

    def _answer(self) -> None:
        if self.is_away:
            raise AdaptersAway("it is away")


class Process:
    def __init__(self, store: Any, written: Table | None = None) -> None:
        self.changes = 0
        self.added = Added(store, written or table(), self._changed)
        self.table = self.added.written

    def _changed(self) -> None:
        self.changes += 1
        self.table = self.added.join(self.added.written)

    def configure(self, written: Table) -> None:
        self.table = self.added.join(written)
        self.added.written = written

    def names(self, model: str = "chat") -> list[str]:
        return list(self.table.models[model].adapters)


def test_what_one_is_told_the_others_do() -> None:
    async def story() -> None:
        store = Store()
        one, other = Process(store), Process(store)
        assert await one.added.add(entry(tenants=["t"], version="v2"))
        assert one.names() == ["a"]
        await other.added.look()
        assert other.table.models["chat"].adapters["a"] == Adapter("a", "/srv/a", frozenset({"t"}), "v2", examined=True)
        assert other.table.revision == one.table.revision != "r1"
        late = Process(store)
        await late.added.look()
        assert late.names() == ["a"], "it survives a restart"
        assert await other.added.remove(AdapterName("chat", "a"))
        for process in (one, other, late):
            await process.added.look()
            assert process.names() == []
            assert process.table is process.added.written

    run(story())


def test_the_same_again_changes_nothing_and_another_is_refused() -> None:
    async def story() -> None:
        store = Store()
        one, other = Process(store), Process(store)
        assert await one.added.add(entry(tenants=["t", "s"]))
        assert await other.added.add(entry(tenants=["s", "t", "s"]))
        assert store.changes == 1
        for unlike in (entry(), entry(tenants=["t", "s"], version="v"), entry(tenants=["t", "s"], path="/srv/b")):
            assert not await other.added.add(unlike)
        assert one.changes == other.changes == store.changes == 1
        assert not await one.added.remove(AdapterName("chat", "b"))

    run(story())


def test_a_look_that_finds_nothing_new_changes_nothing_and_what_stays_is_the_same_object() -> None:
    async def story() -> None:
        store = Store()
        process = Process(store)
        await process.added.add(entry("a"))
        first = process.table.models["chat"].adapters["a"]
        await process.added.look()
        assert process.changes == 1
        await process.added.add(entry("b"))
        process.configure(table("c"))
        assert process.table.models["chat"].adapters["a"] is first

    run(story())


def test_a_reload_keeps_them_and_the_yaml_wins() -> None:
    async def story() -> None:
        process = Process(Store(), table("y"))
        for name in ("a", "b", "c"):
            await process.added.add(entry(name))
        assert process.names() == ["y", "a", "b", "c"]
        before = process.table.revision
        process.configure(table("b", revision="r2", aliases={"chat:c": "chat"}))
        assert process.names() == ["b", "a"]
        assert process.table.models["chat"].adapters["b"].path == "/yaml/b"
        assert "the YAML has an adapter" in process.added.idle[AdapterName("chat", "b")]
        assert "alias" in process.added.idle[AdapterName("chat", "c")]
        assert process.table.revision.startswith("r2+")
        assert process.table.revision != before
        process.configure(table())
        assert process.names() == ["a", "b", "c"]
        assert process.added.idle == {}

    run(story())


def test_a_model_or_directory_that_is_gone_takes_its_adapters_along() -> None:
    async def story() -> None:
        process = Process(Store())
        await process.added.add(entry("a", model="bare"))
        whole = table()
        process.configure(replace(whole, models={"chat": whole.models["chat"]}))
        assert "no such model" in process.added.idle[AdapterName("bare", "a")]
        process.configure(table(directories=("/other",)))
        assert process.names("bare") == []
        assert "adapters.directories" in process.added.idle[AdapterName("bare", "a")]
        process.configure(table())
        assert process.names("bare") == ["a"]

    run(story())


def test_while_the_store_is_away_nothing_changes_and_those_known_stay() -> None:
    async def story() -> None:
        store = Store()
        process = Process(store)
        await process.added.add(entry("a"))
        store.is_away = True
        with pytest.raises(AdaptersAway):
            await process.added.add(entry("b"))
        with pytest.raises(AdaptersAway):
            await process.added.remove(AdapterName("chat", "a"))
        await process.added.look()
        assert (process.names(), process.added.away) == (["a"], "it is away")
        store.is_away = False
        await process.added.look()
        assert (process.names(), process.added.away) == (["a"], "")

    run(story())


def test_a_store_that_lost_what_it_had_is_given_it_again() -> None:
    async def story() -> None:
        store = Store()
        one, other = Process(store), Process(store)
        await one.added.add(entry("a"))
        await other.added.look()
        for change in (other.added.add(entry("b")), other.added.remove(AdapterName("chat", "b")), other.added.look()):
            store.kept = NOTHING_KEPT
            await change
            assert "chat:a" in store.kept.entries
            await one.added.look()
            assert "a" in one.names()
        await other.added.remove(AdapterName("chat", "a"))
        await other.added.remove(AdapterName("chat", "b"))
        await one.added.look()
        assert (one.names(), dict(store.kept.entries)) == ([], {}), "that is not taken for a loss"

    run(story())


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", entry("b").text(), entry("a", path="relative").text(), entry("a", path="/srv/../etc").text()],
)
def test_an_entry_that_makes_no_sense_is_left_out_and_the_others_are_not(text: str) -> None:
    async def story() -> None:
        store = Store()
        store.kept = Kept("x", {"chat:a": text, "chat:good": entry("good").text()})
        process = Process(store)
        await process.added.look()
        assert process.names() == ["good"]
        assert await process.added.remove(AdapterName("chat", "a")), "it can be removed"

    run(story())


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=30), max_size=4))
@settings(max_examples=50)
def test_whatever_the_store_says_is_survived(entries: dict[str, str]) -> None:
    async def story() -> None:
        store = Store()
        store.kept = Kept("x", entries)
        process = Process(store)
        await process.added.look()
        assert process.names() == []

    run(story())


@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.sampled_from(["add", "remove", "look", "lose"]), st.sampled_from("xyz")),
        max_size=25,
    )
)
def test_after_a_look_all_agree_with_the_store(steps: list[tuple[str, str, str]]) -> None:
    """Against a plain dict; what is lost comes back as long as one process knows it."""

    async def story() -> None:
        store = Store()
        processes = {name: Process(store) for name in "ABC"}
        truth: set[str] = set()
        for who, what, name in steps:
            added = processes[who].added
            if what == "add":
                assert await added.add(entry(name))
                truth.add(name)
            elif what == "remove":
                assert await added.remove(AdapterName("chat", name)) == (name in truth)
                truth.discard(name)
            elif what == "lose":
                store.kept = NOTHING_KEPT
            for process in processes.values():
                await process.added.look()
        for process in processes.values():
            assert sorted(process.names()) == sorted(truth)
        assert {name.removeprefix("chat:") for name in store.kept.entries} == truth

    run(story())


def test_no_more_than_so_many_are_taken() -> None:
    async def story() -> None:
        store = Store()
        store.kept = Kept("x", {f"chat:a{at}": entry(f"a{at}").text() for at in range(MOST_ADDED + 5)})
        process = Process(store)
        await process.added.look()
        assert len(process.names()) == MOST_ADDED

    run(story())


def test_readings_tell_what_is_in_effect() -> None:
    async def story() -> None:
        process = Process(Store())
        for name in ("a", "b", "c"):
            await process.added.add(entry(name))
        process.configure(table("a"))
        found = {(one.name, one.labels.get("in_effect")): one.value for one in process.added.readings()}
        assert found == {
            ("tollgate_adapters_away", None): 0,
            ("tollgate_adapters_added", "1"): 2,
            ("tollgate_adapters_added", "0"): 1,
        }

    run(story())


# The file


def test_a_file_is_made_by_the_first_change(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "new" / "adapters.json"
        store, again = FileAdapters(path), FileAdapters(path)
        assert await store.read("") == NOTHING_KEPT
        assert not await store.remove("chat:a")
        assert not path.exists()
        assert await store.add("chat:a", "one") == "one"
        found = await again.read("")
        assert found is not None
        assert dict(found.entries) == {"chat:a": "one"}
        assert await again.read(found.revision) is None
        assert await again.add("chat:a", "two") == "one"
        assert await store.read(found.revision) is None, "nothing was changed"
        assert await again.remove("chat:a")
        emptied = await store.read(found.revision)
        assert emptied is not None
        assert emptied.revision
        assert not emptied.entries
        assert sorted(one.name for one in path.parent.iterdir()) == ["adapters.json", "adapters.lock"]

    run(story())


@given(st.binary(max_size=30))
def test_a_file_of_anything_is_an_object_or_away(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-adapters.json"
    path.write_bytes(data)

    async def story() -> None:
        for work in (FileAdapters(path).read(""), FileAdapters(path).remove("none")):
            try:
                await work
            except AdaptersAway as error:
                assert "move it away" in str(error)  # noqa: PT017 - either is right

    run(story())


def test_a_directory_that_takes_no_file_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def story() -> None:
        with pytest.raises(AdaptersAway, match="writable"):
            await FileAdapters(tmp_path / "file" / "adapters.json").add("chat:a", "one")

    run(story())


def test_changes_at_the_same_time_are_all_there_and_one_of_a_name_wins(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "adapters.json"
        said = await asyncio.gather(*(FileAdapters(path).add("chat:same", str(at)) for at in range(20)))
        assert len(set(said)) == 1
        await asyncio.gather(*(FileAdapters(path).add(f"chat:{at}", "x") for at in range(20)))
        found = await FileAdapters(path).read("")
        assert found is not None
        assert len(found.entries) == 21

    run(story())


def test_the_store_is_where_the_configuration_says() -> None:
    assert isinstance(open_adapter_store("redis://h:1/0", "none"), RedisAdapters)
    assert isinstance(open_adapter_store("memory://", "none"), FileAdapters)
