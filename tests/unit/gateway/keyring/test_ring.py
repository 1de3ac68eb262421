"""The keys of one process over time: the store changes, is away, forgets, and comes back."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.keyring import ring as ring_module
from gateway.keyring.record import Record
from gateway.keyring.ring import Keyring
from gateway.keyring.store import StoreAway
from gateway.table import Key, Limits, Settings, Table, Tenant
from tests.unit.gateway.keyring.stores import DictStore

NOW = 1_800_000_000.0
SUPPORT = Tenant("support", None, Limits(), None, 1.0, "standard")
WRITTEN = Key("prod", b"written", SUPPORT)


def table(*keys: Key) -> Table:
    by_digest = {key.digest: key for key in keys}
    return Table("r1", Path(), Settings(), {}, {}, {}, {}, (), {"support": SUPPORT}, by_digest)


def record(key_id: str, **fields: object) -> Record:
    given = {"tenant": "support", "id": key_id, "digest": key_id.encode(), "created": NOW}
    return Record(**{**given, **fields})  # type: ignore[arg-type]


class Process:
    """A keyring and what it told its gateway."""

    def __init__(self, store: DictStore) -> None:
        self.store = store
        self.told: list[set[bytes]] = []
        self.ring = Keyring(store, table(WRITTEN), lambda: self.told.append(self.digests), clock=lambda: NOW)

    @property
    def digests(self) -> set[bytes]:
        return set(self.ring.keys.by_digest) - {b"written"}

    def look(self) -> set[bytes]:
        asyncio.run(self.ring.refresh())
        assert self.ring.keys.by_digest[b"written"] is WRITTEN  # whatever happens
        return self.digests

    def reading(self, name: str, **labels: str) -> float:
        (value,) = [one.value for one in self.ring.readings() if one.name == name and one.labels == labels]
        return value


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def process(store: DictStore) -> Process:
    return Process(store)


def test_it_follows_the_store_and_reads_it_only_when_it_has_changed(process: Process, store: DictStore) -> None:
    assert process.look() == set()
    store.put(record("a"))
    assert [process.look() for _ in range(5)] == [{b"a"}] * 5
    store.put(store.records["support", "a"].revoke(NOW))
    assert process.look() == set()
    assert store.loads == 3
    assert process.told == [set(), {b"a"}, set()]


def test_a_new_configuration_is_merged_without_asking_the_store(process: Process, store: DictStore) -> None:
    store.put(record("a"))
    process.look()
    store.away = True
    process.ring.apply(table())
    assert set(process.ring.keys.by_digest) == {b"a"}
    process.ring.apply(replace(table(WRITTEN), tenants={}))
    assert set(process.ring.keys.by_digest) == {b"written"}


def test_a_store_that_goes_away_costs_no_key_and_is_told_once(
    process: Process, store: DictStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tollgate.keys")
    store.put(record("a"))
    process.look()
    assert process.reading("tollgate_keys_store_up") == 1.0
    store.away = True
    assert [process.look() for _ in range(3)] == [{b"a"}] * 3
    assert process.reading("tollgate_keys_store_up") == 0.0
    store.away = False
    store.put(record("b"))
    assert process.look() == {b"a", b"b"}
    assert [line.message for line in caplog.records] == [
        "key store away: serving with the keys known",
        "key store back",
    ]
    assert process.reading("tollgate_keys", source="store") == 2.0
    assert process.reading("tollgate_keys", source="yaml") == 1.0


def test_a_process_that_never_reached_the_store_knows_that_it_may_lack_keys(process: Process, store: DictStore) -> None:
    store.away = True
    process.look()
    process.ring.apply(table(WRITTEN))
    assert not process.ring.keys.complete
    assert process.reading("tollgate_keys_store_up") == 0.0
    store.away = False
    process.look()
    assert process.ring.keys.complete
    store.away = True
    process.look()
    assert process.ring.keys.complete


def test_a_store_that_forgot_everything_is_given_it_back(
    process: Process, store: DictStore, caplog: pytest.LogCaptureFixture
) -> None:
    other = Process(store)
    for one in (record("a"), record("b").revoke(NOW)):
        store.put(one)
    assert process.look() == other.look() == {b"a"}
    known = dict(store.records)
    store.forget()
    assert process.look() == {b"a"}
    assert store.records == known
    assert [line.fields for line in caplog.records] == [{"count": 2}]  # type: ignore[attr-defined]
    assert other.look() == process.look() == {b"a"}
    assert store.records == known


def test_what_others_have_changed_meanwhile_is_kept(process: Process, store: DictStore) -> None:
    store.put(record("a").rotated(b"a2", 0.0, NOW))
    process.look()
    store.forget()
    store.put(record("b"))
    assert process.look() == {b"a2", b"b"}
    assert set(store.records) == {("support", "a"), ("support", "b")}


def test_an_older_state_of_the_store_does_not_bring_a_revoked_key_back(process: Process, store: DictStore) -> None:
    backup = record("a")
    store.put(backup.revoke(NOW))
    process.look()
    store.forget()
    store.put(backup)  # restored
    store.put(record("b"))
    assert process.look() == {b"b"}
    assert store.records["support", "a"].state(NOW) == "revoked"


def test_history_is_not_put_back(process: Process, store: DictStore) -> None:
    store.put(record("a").revoke(NOW - 40 * 86_400))
    process.look()
    store.forget()
    process.look()
    assert store.records == {}


def test_a_store_that_takes_nothing_back_is_asked_again(process: Process, store: DictStore) -> None:
    store.put(record("a"))
    process.look()
    store.forget()
    store.full = True
    assert process.look() == {b"a"}
    assert process.reading("tollgate_keys_store_up") == 0.0
    store.full = False
    assert process.look() == {b"a"}
    assert ("support", "a") in store.records


def test_a_key_that_the_yaml_overrules_is_told_once(
    process: Process, store: DictStore, caplog: pytest.LogCaptureFixture
) -> None:
    for key_id in ("prod", "a", "b"):
        store.put(record(key_id))
        process.look()
    assert process.digests == {b"a", b"b"}
    assert [line.fields for line in caplog.records] == [{"tenant": "support", "key": "prod"}]  # type: ignore[attr-defined]
    assert process.ring.shadowed == {("support", "prod")}


def test_uses_are_told_to_the_store_in_batches(
    process: Process, store: DictStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "USES_PER_FLUSH", 2)
    used = process.ring.keys.used
    used |= {("support", str(n)): float(n) for n in range(3)}
    asyncio.run(process.ring.flush())
    assert len(store.used) == 2
    asyncio.run(process.ring.flush())
    assert store.used == {("support", "0"): 0.0, ("support", "1"): 1.0, ("support", "2"): 2.0}
    assert used == {}


def test_uses_outlast_a_store_that_is_away(process: Process, store: DictStore) -> None:
    used = process.ring.keys.used
    used["support", "a"] = 5.0
    store.used["support", "b"] = 3.0
    store.away = True
    asyncio.run(process.ring.flush())
    assert asyncio.run(process.ring.uses()) == {("support", "a"): 5.0}
    used["support", "a"] = 6.0
    store.away = False
    assert asyncio.run(process.ring.uses()) == {("support", "a"): 6.0, ("support", "b"): 3.0}
    asyncio.run(process.ring.close())
    assert store.used["support", "a"] == 6.0


def test_a_store_that_takes_no_uses_is_told_once_and_costs_no_key(
    process: Process, store: DictStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(_: object) -> None:
        raise StoreAway("its directory is read-only")

    store.put(record("a"))
    process.look()
    process.ring.keys.used["support", "a"] = 5.0
    with monkeypatch.context() as patched:
        patched.setattr(store, "note_uses", refuse)
        for _ in range(3):
            asyncio.run(process.ring.flush())
    assert process.look() == {b"a"}
    assert [line.fields for line in caplog.records] == [{"error": "its directory is read-only"}]  # type: ignore[attr-defined]
    asyncio.run(process.ring.flush())
    assert store.used == {("support", "a"): 5.0}


def test_a_use_noted_while_the_store_refuses_is_not_put_back_to_an_earlier_time(
    process: Process, store: DictStore
) -> None:
    used = process.ring.keys.used

    async def refuse(_: object) -> None:
        used["support", "a"] = 9.0
        store.away = True
        await DictStore.note_uses(store, {})

    used["support", "a"] = 5.0
    store.note_uses = refuse  # type: ignore[method-assign]
    asyncio.run(process.ring.flush())
    assert used == {("support", "a"): 9.0}


def test_run_looks_again_and_again_even_after_a_fault_of_its_own(
    process: Process, store: DictStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ring_module, "POLL_SECONDS", (0.0, 0.0))
    asked = 0
    revision = store.revision

    async def once_faulty() -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ZeroDivisionError
        return await revision()

    store.revision = once_faulty  # type: ignore[method-assign]
    store.put(record("a"))

    async def story() -> None:
        task = asyncio.create_task(process.ring.run())
        async with asyncio.timeout(10):
            while process.digests != {b"a"}:  # noqa: ASYNC110
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    assert "could not be looked after" in caplog.text
