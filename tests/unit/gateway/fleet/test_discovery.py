"""Workers found behind a name in DNS or in a file, and what becomes of them in the fleet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import AsyncGenerator, Collection, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fleet import discovery
from gateway.fleet.discovery import MOST_FOUND, Discovery, LookFailed, read_list, stands_for_many
from gateway.fleet.readiness import unserved
from gateway.fleet.registry import Fleet
from gateway.table import Table, configured

if TYPE_CHECKING:
    from tests.unit.gateway.fleet.conftest import Kit

SECONDS = 20.0
URL = "dns+http://chat.svc:8000"


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


class Records:
    """A resolver that answers what stands here."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Collection[str] | Exception = addresses
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Collection[str]:
        self.asked.append(host)
        if isinstance(self.addresses, Exception):
            raise self.addresses
        return self.addresses


def looking(records: Records, url: str = URL) -> tuple[Discovery, list[tuple[str, ...]]]:
    """A discovery, and what was found each time it said so."""
    told: list[tuple[str, ...]] = []
    one = Discovery("chat", url, lambda: told.append(one.urls), Random(1), records)
    return one, told


# Names


def test_who_stands_for_many(kit: Kit) -> None:
    assert [stands_for_many(kit.worker(url=url)) for url in (URL, "file:///a.yaml", "http://h:1", "https://h")] == [
        True,
        True,
        False,
        False,
    ]


def test_whose_a_worker_is() -> None:
    assert configured("chat-fp8-10.0.0.5", ["chat", "chat-fp8"]) == "chat-fp8"
    assert configured("chat", ["chat", "chat-fp8"]) == "chat"
    assert configured("gone", ["chat"]) == "gone"


# DNS


def test_a_name_is_one_url_for_each_address_with_the_port_and_the_path() -> None:
    async def story() -> None:
        records = Records("10.0.0.6", "10.0.0.5", "fd00::1")
        one, told = looking(records, "dns+http://chat.svc:8000/base")
        await one.look()
        assert told == [("http://10.0.0.5:8000/base", "http://10.0.0.6:8000/base", "http://[fd00::1]:8000/base")]
        assert records.asked == ["chat.svc"]
        await one.look()
        assert len(told) == 1, "nothing new is no news"

    run(story())


def test_an_address_is_gone_when_it_was_absent_twice_in_a_row() -> None:
    async def story() -> None:
        records = Records("10.0.0.5", "10.0.0.6")
        one, told = looking(records)
        await one.look()
        for addresses in (["10.0.0.5"], ["10.0.0.6", "10.0.0.5"], ["10.0.0.5"]):
            records.addresses = addresses
            await one.look()
        assert len(told) == 1
        await one.look()
        assert told[1:] == [("http://10.0.0.5:8000",)]

    run(story())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "has no address (Name or service not known)"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
        (UnicodeError("label too long"), "label too long"),
        ((), "has no address"),
    ],
)
def test_a_resolver_that_fails_leaves_those_known(answer: Any, why: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        records = Records("10.0.0.5")
        one, told = looking(records)
        await one.look()
        records.addresses = answer
        for _ in range(3):
            await one.look()
        assert why in one.error
        assert (one.urls, len(told)) == (("http://10.0.0.5:8000",), 1)
        records.addresses = ("10.0.0.5",)
        await one.look()
        assert one.error == ""

    with caplog.at_level(logging.INFO):
        run(story())
    events = [record.getMessage() for record in caplog.records]
    assert events == ["workers found", "workers not looked up: those known stay", "workers looked up again"]


def test_a_resolver_that_does_not_answer_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async def never(host: str) -> Collection[str]:
            await asyncio.Event().wait()
            raise AssertionError

        one = Discovery("chat", URL, lambda: None, Random(1), never)
        await one.look()
        assert "no answer" in one.error
        assert one.has_looked

    monkeypatch.setattr(discovery, "ANSWER_SECONDS", 0.01)
    run(story())


def test_no_more_than_so_many_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        one, _ = looking(Records(*(f"10.0.{i // 256}.{i % 256}" for i in range(MOST_FOUND + 10))))
        await one.look()
        assert len(one.urls) == MOST_FOUND

    run(story())
    assert "more workers found than one address may stand for" in caplog.messages


def test_the_systems_resolver_is_asked() -> None:
    async def story() -> None:
        one = Discovery("chat", "dns+http://localhost:8000", lambda: None, Random(1))
        await one.look()
        assert "http://127.0.0.1:8000" in one.urls

    run(story())


# Files


def write(path: Path, text: str) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    os.replace(fresh, path)


@pytest.mark.parametrize(
    "text",
    [
        "- http://10.0.0.5:8000\n- https://b/v1\n",
        "urls: [http://10.0.0.5:8000, https://b/v1]",
        '["http://10.0.0.5:8000/", "https://b/v1"]',
        '{"urls": ["http://10.0.0.5:8000", "https://b/v1"]}',
    ],
)
def test_a_file_lists_urls_in_yaml_or_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "chat.yaml"
    path.write_text(text)
    assert read_list(path) == ["http://10.0.0.5:8000", "https://b/v1"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no list of URLs"),
        ("{}", "has no list of URLs"),
        ("- [", "neither YAML nor JSON"),
        ("\x00", "neither YAML nor JSON"),
        ("- 5", "lists `5`"),
        ("- ftp://h", "lists `ftp://h`"),
        ("- http://h:99999", "lists `http://h:99999`"),
        ("- http://h:0", "lists `http://h:0`"),
        ("- http://user@h:1", "lists `http://user@h:1`"),
        ("x" * (discovery.MAX_FILE_BYTES + 1), "has no list of URLs"),
    ],
)
def test_a_file_that_makes_no_sense_says_why(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "chat.yaml"
    path.write_text(text)
    with pytest.raises(LookFailed) as caught:
        read_list(path)
    assert why in str(caught.value)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_no_content_breaks_the_reading(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    with contextlib.suppress(LookFailed):
        assert all(entry.startswith("http") for entry in read_list(path))


def test_a_change_is_read_once_it_rests_and_an_invalid_one_keeps_the_old(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "chat.yaml"
        write(path, "- http://a:1\n")
        one, told = looking(Records(), f"file://{path}")
        await one.look()
        assert told == [("http://a:1",)]
        write(path, "- http://a:1\n- http://b:1\n")
        await one.look()
        assert len(told) == 1, "it may be being written"
        await one.look()
        assert told[1:] == [("http://a:1", "http://b:1")]
        write(path, "- nonsense\n")
        for _ in range(3):
            await one.look()
        assert "nonsense" in one.error
        assert one.urls == ("http://a:1", "http://b:1")
        path.unlink()
        await one.look()
        assert "cannot be read" in one.error
        write(path, "[]\n")
        for _ in range(3):
            await one.look()
        assert (one.error, one.urls) == ("", ())

    run(story())


def test_a_broken_file_that_is_written_again_is_not_taken_for_repaired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        path = tmp_path / "chat.yaml"
        write(path, "- http://a:1\n")
        one, _ = looking(Records(), f"file://{path}")
        await one.look()
        for text in ("- nonsense\n", "- nonsense\n- more\n"):
            write(path, text)
            for _ in range(2):
                await one.look()
            assert "nonsense" in one.error
        write(path, "- http://b:1\n")
        for _ in range(2):
            await one.look()

    with caplog.at_level(logging.INFO):
        run(story())
    assert caplog.messages == [
        "workers found",
        "workers not looked up: those known stay",
        "workers looked up again",
        "workers found",
    ]


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "chat.yaml"
        write(path, "- http://a:1\n")
        one, _ = looking(Records(), f"file://{path}")
        await one.look()
        path.unlink()
        os.mkfifo(path)
        for _ in range(2):
            await one.look()
        assert "is not a regular file" in one.error
        assert one.urls == ("http://a:1",)

    run(story())


def test_a_directory_and_a_name_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LookFailed, match="is not a regular file"):
        read_list(tmp_path)

    async def story() -> None:
        one, _ = looking(Records(), "file:///tmp/a%00b.yaml")
        await one.look()
        assert "cannot be read" in one.error

    run(story())


@pytest.mark.timeout(20)
def test_a_disk_that_hangs_is_waited_for_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()

    def hang(path: Path) -> list[str]:
        hanging.wait(60.0)
        return []

    async def story() -> None:
        path = tmp_path / "chat.yaml"
        write(path, "- http://a:1\n")
        one, told = looking(Records(), f"file://{path}")
        for _ in range(2):
            await one.look()
        assert "gives no answer" in one.error
        assert (one.has_looked, len(told)) == (True, 1)

    monkeypatch.setattr(discovery, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(discovery, "read_list", hang)
    run(story())  # whose end waits for no thread
    assert not hanging.is_set()
    hanging.set()


# In the fleet


@asynccontextmanager
async def fleet_of(kit: Kit, table: Table, records: Records) -> AsyncGenerator[Fleet]:
    fleet = Fleet(kit.make_backend, resolve=records, random=Random(1))
    fleet.apply(table)
    await fleet.start()
    try:
        yield fleet
    finally:
        await fleet.stop()


async def named(fleet: Fleet, *names: str) -> None:
    assert await fleet.wait_until(lambda: sorted(fleet.workers()) == sorted(names), SECONDS), list(fleet.workers())


def test_each_address_is_a_worker_that_comes_and_goes(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "RESOLVE_SECONDS", 0.02)

    async def story() -> None:
        async with kit.engine() as engine:
            records = Records("127.0.0.1")
            table = kit.table(kit.worker("chat", url=f"dns+http://chat.svc:{engine.port}"), kit.worker("static"))
            async with fleet_of(kit, table, records) as fleet:
                await fleet.first_look(SECONDS)
                await named(fleet, "chat-127.0.0.1", "static")
                first = next(one for one in fleet.backends() if one.worker.name == "chat-127.0.0.1")
                assert first.up
                assert list(unserved(table, fleet.views)) == []
                assert first in fleet.views("chat", "fp8")
                records.addresses = ("127.0.0.1", "127.0.0.2")
                await named(fleet, "chat-127.0.0.1", "chat-127.0.0.2", "static")
                assert next(iter(fleet.backends())) is first, "it keeps its state"
                first.inflight = 1
                records.addresses = ("127.0.0.2",)
                await named(fleet, "chat-127.0.0.2", "static")
                assert not first.up
                assert not first.pool.was_closed.is_set(), "it finishes its requests"  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
                first.inflight = 0
                async with asyncio.timeout(SECONDS):
                    await first.pool.was_closed.wait()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

    run(story())


def test_a_drained_one_stays_drained_while_others_come(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "RESOLVE_SECONDS", 0.02)

    async def story() -> None:
        records = Records("127.0.0.1")
        async with fleet_of(kit, kit.table(kit.worker("chat", url="dns+http://chat.svc:1")), records) as fleet:
            await named(fleet, "chat-127.0.0.1")
            fleet.drain("chat-127.0.0.1")
            records.addresses = ("127.0.0.1", "127.0.0.2")
            await named(fleet, "chat-127.0.0.1", "chat-127.0.0.2")
            assert [one.draining for one in fleet.backends()] == [True, False]

    run(story())


def test_a_change_of_the_configuration_keeps_what_was_found(kit: Kit) -> None:
    async def story() -> None:
        records = Records("127.0.0.1")
        chat = kit.worker("chat", url="dns+http://chat.svc:1")
        async with fleet_of(kit, kit.table(chat), records) as fleet:
            await named(fleet, "chat-127.0.0.1")
            (before,) = fleet.backends()
            fleet.apply(
                kit.table(
                    kit.worker("chat", url=chat.url, max_inflight=3), kit.worker("other", url="http://127.0.0.1:2")
                )
            )
            assert list(fleet.workers()) == ["chat-127.0.0.1", "other"]
            assert next(iter(fleet.backends())) is before
            assert before.worker.max_inflight == 3
            fleet.apply(kit.table(kit.worker("chat", url="dns+http://elsewhere.svc:1")))
            assert next(iter(fleet.backends())) is before
            await fleet.first_look(SECONDS)
            assert records.asked[-1] == "elsewhere.svc"
            asked = len(records.asked)
            fleet.apply(kit.table(kit.worker("other", url="http://127.0.0.1:2")))
            await asyncio.sleep(0.05)
            assert (list(fleet.workers()), len(records.asked)) == (["other"], asked)

    run(story())


def test_of_an_address_that_cannot_be_looked_up_those_of_the_one_before_stay(
    kit: Kit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        records = Records("127.0.0.1")
        fleet = Fleet(kit.make_backend, resolve=records, random=Random(1))

        async def to(url: str, **changed: Any) -> Discovery:
            fleet.apply(kit.table(kit.worker("chat", url=url, **changed)))
            (one,) = fleet.discoveries().values()
            await one.look()
            return one

        await to("dns+http://chat.svc:1")
        (before,) = fleet.backends()
        mistyped = tmp_path / "mistyped.yaml"
        for _ in range(2):
            assert "cannot be read" in (await to(f"file://{mistyped}")).error
            assert list(fleet.backends()) == [before], "under its name, with its state"
        records.addresses = ()
        await to("dns+http://chat.svc.typo:1")
        assert list(fleet.backends()) == [before], "also after a second typo"
        records.addresses = ("127.0.0.2",)
        await to("dns+http://right.svc:1")
        assert list(fleet.workers()) == ["chat-127.0.0.2"], "the first look that succeeds says who is there"
        for changed in ({"api_key": "new"}, {"version": "int4"}):
            await to("dns+http://right.svc:1")
            await to(f"file://{mistyped}")
            assert list(fleet.workers()) == ["chat-127.0.0.2"]
            await to(f"file://{mistyped}", **changed)
            assert list(fleet.workers()) == [], "nobody gets a key or a model that was not said of it"
        await fleet.stop()

    run(story())
    assert "workers not looked up: those of the address before stay" in caplog.messages


def test_those_that_meet_others_are_said_once(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        own = kit.worker("chat-127.0.0.1", url="http://127.0.0.9:1")
        table = kit.table(kit.worker("chat", url="dns+http://chat.svc:1"), own)
        fleet = Fleet(kit.make_backend, resolve=Records("127.0.0.1"), random=Random(1))
        fleet.apply(table)
        await fleet.discoveries()["chat"].look()
        fleet.apply(table)
        assert sorted(one.worker.url for one in fleet.backends()) == ["http://127.0.0.1:1", "http://127.0.0.9:1"]
        (warning,) = fleet.discoveries()["chat"].warnings
        assert "another worker is `chat-127.0.0.1`" in warning
        await fleet.stop()

    run(story())
    assert caplog.messages.count("a worker found meets another") == 1


def test_while_nothing_is_found_its_model_has_no_worker(kit: Kit) -> None:
    async def story() -> None:
        table = kit.table(kit.worker("chat", url="dns+http://chat.svc:1"))
        async with fleet_of(kit, table, Records()) as fleet:
            await fleet.first_look(SECONDS)
            assert unserved(table, fleet.views) == {"chat": "it has no worker"}
            assert fleet.discoveries()["chat"].error

    run(story())
