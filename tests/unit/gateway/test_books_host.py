"""A parent's books and the processes that ask for them: one limit among all, whoever comes, dies or talks nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from socket import AF_UNIX, socket

import orjson
import pytest

from gateway.books_host import START_SECONDS, BooksHost, BooksUnavailable
from gateway.errors import RateLimited
from gateway.state.hosted import LONGEST_LINE, HostedLimits
from gateway.table import Key, Limits, Tenant
from gateway.tenancy.limits import Lease
from gateway.tenancy.shared import SharedLimiter
from tests.unit.gateway.dialogue import dialogue

BOOKS = "books"
RPM = 20


def key(**limits: int) -> Key:
    return Key("k", b"digest", Tenant("acme", None, Limits(**limits), None, 1.0, "standard"))


FEW = key(rpm=RPM)
NARROW = key(concurrency=6)


@asynccontextmanager
async def child(path: Path, name: str) -> AsyncIterator[SharedLimiter]:
    limiter = SharedLimiter(HostedLimits(str(path / BOOKS)), name, lambda *_: None, 2, store="parent")
    running = asyncio.create_task(limiter.run())
    try:
        yield limiter
    finally:
        running.cancel()
        await asyncio.wait([running])
        await limiter.close()


async def asks(limiter: SharedLimiter, who: Key) -> Lease | None:
    """None when it is refused; always in bounded time."""
    try:
        async with asyncio.timeout(5.0):
            return limiter.admit(who, "", 1, 0, time.time()) or await limiter.wait(who, "", 1, 0)
    except RateLimited:
        return None


async def becomes(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(15.0):
        while not what():  # noqa: ASYNC110 - the state of another thread, or of a limiter that tells nobody
            await asyncio.sleep(0.01)


@dialogue
async def test_two_processes_keep_one_limit(tmp_path: Path) -> None:
    with BooksHost(tmp_path / BOOKS):
        async with child(tmp_path, "a") as one, child(tmp_path, "b") as other:
            assert one.state._replace(waiting=0) == ("parent", False, 2, 0)
            leases = await asyncio.gather(*(asks(limiter, FEW) for _ in range(RPM) for limiter in (one, other)))
            assert len([lease for lease in leases if lease is not None]) == RPM
            assert await asks(one, FEW) is None
            assert [one.is_alone, other.is_alone] == [False, False]


@dialogue
async def test_places_of_one_that_leaves_are_the_others(tmp_path: Path) -> None:
    with BooksHost(tmp_path / BOOKS):
        async with child(tmp_path, "b") as other:
            async with child(tmp_path, "a") as one:
                held = [await asks(one, NARROW) for _ in range(6)]
                assert None not in held
                assert await asks(other, NARROW) is None
                for lease in held:
                    assert lease is not None
                    lease.settle(1, 0, time.time())
            got = 0
            async with asyncio.timeout(15.0):
                while got < 6:  # a refusal is repeated for a moment without asking
                    got += await asks(other, NARROW) is not None
                    await asyncio.sleep(0.005)


class Cable:
    """Between the children and their parent; it can be cut."""

    def __init__(self, path: Path, parent: Path) -> None:
        self._path, self._parent = path, parent
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_unix_server(self._connect, self._path)

    async def cut(self) -> None:
        self._server.close()
        for end in self._ends:
            end.close()
        await asyncio.wait(self._tasks)
        self._path.unlink(missing_ok=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parent_reader, parent_writer = await asyncio.open_unix_connection(self._parent)
        self._ends |= {writer, parent_writer}
        for one, other in ((reader, parent_writer), (parent_reader, writer)):
            self._tasks.add(asyncio.create_task(self._pass_on(one, other)))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while said := await reader.read(65_536):
                writer.write(said)
        writer.close()


@dialogue
async def test_without_the_parent_each_goes_on_alone_and_comes_back(tmp_path: Path) -> None:
    """Nobody waits for ever, and nobody passes the limit."""
    began = time.monotonic()
    granted = 0
    with BooksHost(tmp_path / "parent"):
        cable = Cable(tmp_path / BOOKS, tmp_path / "parent")
        await cable.mend()
        async with child(tmp_path, "a") as one, child(tmp_path, "b") as other:
            for limiter in (one, other) * (RPM // 4):
                granted += await asks(limiter, FEW) is not None
            assert granted == RPM // 4 * 2
            await cable.cut()
            for limiter in (one, other):
                for _ in range(RPM):
                    granted += await asks(limiter, FEW) is not None
                await becomes(lambda limiter=limiter: limiter.state.is_away)
            assert granted <= RPM + (time.monotonic() - began) * RPM / 60
            await cable.mend()
            for limiter in (one, other):
                await becomes(lambda limiter=limiter: not limiter.state.is_away)
            for limiter in (one, other) * RPM:
                granted += await asks(limiter, FEW) is not None
            assert [one.is_alone, other.is_alone] == [False, False]
            assert granted <= RPM + (time.monotonic() - began) * RPM / 60
        await cable.cut()


@dialogue
async def test_a_parent_that_has_forgotten_all_is_told(tmp_path: Path) -> None:
    async with child(tmp_path, "a") as one:
        with BooksHost(tmp_path / BOOKS):
            held = [await asks(one, NARROW) for _ in range(6)]
            assert None not in held
        with BooksHost(tmp_path / BOOKS):
            await asks(one, NARROW)
            await becomes(lambda: not one.state.is_away)
            async with child(tmp_path, "b") as other:
                for _ in range(10):
                    assert await asks(other, NARROW) is None


@dialogue
async def test_how_many_share_is_how_many_are_connected(tmp_path: Path) -> None:
    with BooksHost(tmp_path / BOOKS):
        lines = [HostedLimits(str(tmp_path / BOOKS)) for _ in range(3)]
        assert [(await line.present(f"p{i}")).processes for i, line in enumerate(lines)] == [1, 2, 3]
        await lines[0].close()
        async with asyncio.timeout(15.0):
            while (await lines[1].present("p1")).processes != 2:  # noqa: ASYNC110 - the state of another thread
                await asyncio.sleep(0.01)
        for line in lines:
            await line.close()


NONSENSE = [
    b"not json\n",
    b"17\n",
    b"[17]\n",
    b"[[]]\n",
    b'[["acme","x",1,60000,-1,["tenant"],[[1,2]],[]]]\n',
    b'[["acme","x",1,60000,-1,["tenant"],[' + orjson.dumps([0] * 22) + b"],[[1]]]]\n",
    b"x" * (LONGEST_LINE + 2),
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda line: line[:20].decode())
@dialogue
async def test_who_talks_nonsense_is_left_and_the_others_go_on(
    tmp_path: Path, nonsense: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with BooksHost(tmp_path / BOOKS):
        async with child(tmp_path, "a") as one:
            assert await asks(one, FEW) is not None
            reader, writer = await asyncio.open_unix_connection(tmp_path / BOOKS)
            with contextlib.suppress(OSError):
                writer.write(nonsense)
                await writer.drain()
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            for _ in range(RPM - 1):
                assert await asks(one, FEW) is not None
            assert await asks(one, FEW) is None
            assert not one.is_alone
    assert [record for record in caplog.records if record.levelno > logging.WARNING] == []


@dialogue
async def test_the_dead_hold_their_places_no_longer_than_they_are_expected(tmp_path: Path) -> None:
    """Killed with requests under way: what it held is not handed out twice before it is taken for dead."""
    with BooksHost(tmp_path / BOOKS):
        victim = SharedLimiter(HostedLimits(str(tmp_path / BOOKS)), "v", lambda *_: None, 2, ttl=300, store="parent")
        asked = [asyncio.create_task(asks(victim, NARROW)) for _ in range(6)]
        assert None not in [await one for one in asked]
        await victim._far.close()  # pyright: ignore[reportPrivateUsage] # no farewell
        async with child(tmp_path, "b") as other:
            died = time.monotonic()
            while await asks(other, NARROW) is None:
                assert time.monotonic() - died < 15.0
                await asyncio.sleep(0.05)


@dialogue
async def test_the_parent_ends_whoever_is_still_connected(tmp_path: Path) -> None:
    with closing(socket(AF_UNIX)) as stuck:
        with BooksHost(tmp_path / BOOKS):
            stuck.connect(str(tmp_path / BOOKS))
            stuck.sendall(b'{"holder":"stuck","well":true}\n')
            assert stuck.recv(100) == b"[1,false,true]\n"
            began = time.monotonic()
        assert time.monotonic() - began < START_SECONDS
        assert stuck.recv(10) == b""


@pytest.mark.parametrize("path", ["nowhere/books", "b" * 200])
def test_a_place_that_can_not_be_listened_on_is_named_with_what_to_do(tmp_path: Path, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(BooksUnavailable, match="let TMPDIR name a directory") as caught, BooksHost(tmp_path / path):
        pass
    assert str(tmp_path / path) in str(caught.value)
    assert time.monotonic() - began < START_SECONDS
