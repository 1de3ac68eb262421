"""One contract, three stores of keys: an SQLite file, a real Redis, a real Redis Cluster. And how each is away."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.keyring.opening import open_key_store
from gateway.keyring.record import KeyName, Record
from gateway.keyring.redis import RECORDS, USES
from gateway.keyring.store import KeyStore, StoreAway

if TYPE_CHECKING:
    from tests.redis.conftest import RedisServer

pytestmark = pytest.mark.redis

NOW = 1_800_000_000.0
NAME = ("support", "prod")
Story = Callable[[KeyStore, KeyStore], Awaitable[None]]


def record(tenant: str = "support", key_id: str = "prod", digest: bytes = b"\1" * 32) -> Record:
    return Record(tenant=tenant, id=key_id, digest=digest, created=NOW)


@asynccontextmanager
async def opened(state: str, ledger: str) -> AsyncIterator[KeyStore]:
    store = open_key_store(state, ledger)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """`state:` and `ledger:` of a configuration."""
    ledger = f"sqlite:///{tmp_path}/var/ledger.db"
    if request.param == "sqlite":
        return "memory://", ledger
    if request.param == "redis":
        return request.getfixturevalue("redis_server").url, ledger
    return f"redis+cluster://{request.getfixturevalue('redis_cluster')[0].address}", ledger


@pytest.fixture
def tell(where: tuple[str, str]) -> Callable[[Story], None]:
    """Runs a story with two processes' views of one store."""

    def run(story: Story) -> None:
        async def both() -> None:
            async with opened(*where) as one, opened(*where) as other:
                await story(one, other)

        asyncio.run(both())

    return run


def test_an_empty_store_holds_nothing(tell: Callable[[Story], None]) -> None:
    async def story(one: KeyStore, other: KeyStore) -> None:
        assert await one.revision() == ""
        assert await other.load() == ("", {})
        assert await one.uses() == {}

    tell(story)


def test_what_one_puts_in_the_other_finds_whole(tell: Callable[[Story], None]) -> None:
    async def story(one: KeyStore, other: KeyStore) -> None:
        rotated = record().rotated(b"\2" * 32, 60.0, NOW)
        assert await one.swap(NAME, 0, record())
        assert await one.swap(NAME, 1, rotated)
        assert await one.swap(("tenant.b", "a-1"), 0, record("tenant.b", "a-1"))
        found = await other.load()
        assert found.records == {NAME: rotated, ("tenant.b", "a-1"): record("tenant.b", "a-1")}
        assert found.revision == await other.revision() == await one.revision() != ""

    tell(story)


def test_every_change_and_nothing_else_changes_the_revision(tell: Callable[[Story], None]) -> None:
    async def story(one: KeyStore, other: KeyStore) -> None:
        seen = [await other.revision()]
        for version, after in ((0, record()), (1, record().revoke(NOW)), (2, None)):
            assert await one.swap(NAME, version, after)
            seen.append(await other.revision())
        assert len(set(seen)) == 4
        assert not await one.swap(NAME, 7, record())
        await one.note_uses({NAME: NOW})
        assert await other.revision() == seen[-1]

    tell(story)


@pytest.mark.parametrize("version", [0, 2])
def test_a_change_made_from_another_version_is_not_made(tell: Callable[[Story], None], version: int) -> None:
    async def story(one: KeyStore, other: KeyStore) -> None:
        assert await one.swap(NAME, 0, record())
        before = await other.load()
        assert not await one.swap(NAME, version, record(digest=b"\3" * 32))
        assert not await one.swap(NAME, version, None)
        assert not await one.swap(("support", "none"), 1, record(key_id="none"))
        assert await other.load() == before

    tell(story)


def test_of_many_at_once_one_wins(tell: Callable[[Story], None]) -> None:
    async def story(one: KeyStore, other: KeyStore) -> None:
        rivals = [record(digest=bytes([n]) * 32) for n in range(8)]
        won = await asyncio.gather(*((one, other)[n % 2].swap(NAME, 0, rival) for n, rival in enumerate(rivals)))
        assert won.count(True) == 1
        assert (await one.load()).records == {NAME: rivals[won.index(True)]}

    tell(story)


def test_of_two_uses_the_later_one_stays(tell: Callable[[Story], None]) -> None:
    async def story(one: KeyStore, other: KeyStore) -> None:
        written = ("support", "in-the-yaml")
        await one.note_uses({NAME: NOW + 5, written: NOW})
        await other.note_uses({NAME: NOW, written: NOW + 7.25})
        assert await one.uses() == await other.uses() == {NAME: NOW + 5, written: NOW + 7.25}

    tell(story)


def test_a_removed_record_takes_its_use_along(tell: Callable[[Story], None]) -> None:
    async def story(one: KeyStore, other: KeyStore) -> None:
        assert await one.swap(NAME, 0, record())
        await one.note_uses({NAME: NOW})
        assert await one.swap(NAME, 1, None)
        assert (await other.load()).records == {}
        assert await other.uses() == {}

    tell(story)


def test_a_large_batch_of_uses_goes_through(tell: Callable[[Story], None]) -> None:
    async def story(one: KeyStore, other: KeyStore) -> None:
        uses: dict[KeyName, float] = {("support", f"key-{n}"): NOW + n for n in range(2_000)}
        await one.note_uses(uses)
        assert await other.uses() == uses

    tell(story)


def test_a_record_that_has_not_changed_is_not_read_again(tell: Callable[[Story], None]) -> None:
    async def story(one: KeyStore, other: KeyStore) -> None:
        assert await one.swap(NAME, 0, record())
        before = (await other.load()).records
        assert await one.swap(("support", "b"), 0, record(key_id="b"))
        assert (await other.load()).records[NAME] is before[NAME]
        assert await one.swap(NAME, 1, record().revoke(NOW))
        assert (await other.load()).records[NAME] == record().revoke(NOW)

    tell(story)


# Redis


def test_a_record_that_is_none_costs_the_others_nothing(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with opened(redis_server.url, "") as store:
            assert await store.swap(NAME, 0, record())
            with redis_server.client() as client:
                client.hset(RECORDS, "support/odd", "junk")
            for _ in range(2):
                assert (await store.load()).records == {NAME: record()}
            assert caplog.text.count("cannot be read and is left out") == 1
            with pytest.raises(StoreAway):
                await store.swap(("support", "odd"), 0, record(key_id="odd"))

    asyncio.run(story())


@pytest.mark.parametrize("trouble", ["killed", "paused", "full", "another's"])
def test_a_redis_in_trouble_is_away_in_bounded_time_and_says_where(redis_server: RedisServer, trouble: str) -> None:
    async def story() -> None:
        async with opened(redis_server.url.replace("//", "//:secret-password@"), "") as store, asyncio.timeout(10):
            with pytest.raises(StoreAway) as caught:
                await store.swap(NAME, 0, record())
        assert redis_server.address in str(caught.value)
        assert "secret-password" not in str(caught.value)

    with redis_server.client() as client:
        client.config_set("requirepass", "secret-password")
        client.execute_command("AUTH", "secret-password")
        if trouble == "full":
            client.config_set("maxmemory", 1)
        elif trouble == "another's":
            client.set(RECORDS, "a string")
    if trouble == "killed":
        redis_server.kill()
    elif trouble == "paused":
        redis_server.pause()
    try:
        asyncio.run(story())
    finally:
        if trouble == "paused":
            redis_server.resume()


def test_a_client_comes_back_with_its_redis(redis_server: RedisServer) -> None:
    async def story() -> None:
        async with opened(redis_server.url, "") as store:
            assert await store.revision() == ""
            redis_server.kill()
            with pytest.raises(StoreAway):
                await store.revision()
            await asyncio.to_thread(redis_server.start)
            assert await store.revision() == ""

    asyncio.run(story())


def test_what_evicts_the_records_is_noticed(redis_server: RedisServer) -> None:
    """One hash holds both: nothing can take the records and leave their revision."""

    async def story() -> None:
        async with opened(redis_server.url, "") as store:
            assert await store.swap(NAME, 0, record())
            with redis_server.client() as client:
                client.delete(RECORDS)
                assert client.keys("*") == []
                await store.note_uses({NAME: NOW})
                assert client.keys("*") == [USES.encode()]
            assert await store.revision() == ""

    asyncio.run(story())


# SQLite


def story_of(path: Path, story: Callable[[KeyStore], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened("memory://", f"sqlite:///{path.parent / 'ledger.db'}") as store:
            await story(store)

    asyncio.run(run())


def test_looking_makes_no_file_and_writing_makes_a_private_one(tmp_path: Path) -> None:
    path = tmp_path / "var" / "keys.db"

    async def story(store: KeyStore) -> None:
        await store.load()
        await store.revision()
        await store.uses()
        assert not path.parent.exists()
        await store.swap(NAME, 0, record())
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700

    story_of(path, story)


def test_a_file_that_is_deleted_is_empty_and_one_that_is_restored_is_back(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"

    async def story(store: KeyStore) -> None:
        await store.swap(NAME, 0, record())
        revision = await store.revision()
        path.rename(tmp_path / "moved")
        assert await store.load() == ("", {})
        (tmp_path / "moved").rename(path)
        assert await store.revision() == revision

    story_of(path, story)


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")


def of_a_later_version(path: Path) -> None:
    async def make(store: KeyStore) -> None:
        await store.swap(NAME, 0, record())

    story_of(path, make)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(b"no database at all, by any means" * 100), "move it away; gateways that run"),
        (of_another_program, "the database of another program"),
        (of_a_later_version, "another version of Tollgate"),
        (lambda path: path.mkdir(), "make the file and its directory writable"),
    ],
    ids=["junk", "another program's", "later", "a directory"],
)
def test_a_file_that_cannot_be_used_is_left_alone_and_told(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "keys.db"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None

    async def story(store: KeyStore) -> None:
        for use in (store.load(), store.swap(NAME, 0, record()), store.note_uses({NAME: NOW})):
            with pytest.raises(StoreAway, match=words):
                await use

    story_of(path, story)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_file_that_somebody_locks_is_away_for_that_time(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"

    async def story(store: KeyStore) -> None:
        await store.swap(NAME, 0, record())
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreAway, match="end that program's transaction"):
                await store.load()
        assert (await store.load()).records == {NAME: record()}

    story_of(path, story)
