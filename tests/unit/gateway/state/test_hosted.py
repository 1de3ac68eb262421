"""The line from a process to the parent that keeps its books: questions and answers stay together whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
import pytest

from gateway.state.hosted import LONGEST_LINE, HostedLimits
from gateway.state.limits import Call, Presence
from gateway.state.redis import FAILURES
from tests.unit.gateway.dialogue import dialogue

Answers = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
CALL = [Call("acme", ["holder", 1])]


class Parent:
    """Does with each question what `answers` says; `lines` are those it was asked, `connections` how many came."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.lines: list[bytes] = []
        self.connections = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError):
            while line := await reader.readline():
                self.lines.append(line)
                await self._answers(line, writer)
        writer.close()


@asynccontextmanager
async def parent(path: Path, answers: Answers) -> AsyncIterator[tuple[Parent, HostedLimits]]:
    made, limits = Parent(answers), HostedLimits(str(path / "books"))
    server = await asyncio.start_unix_server(made.converse, path / "books")
    try:
        yield made, limits
    finally:
        await limits.close()
        server.close()
        await asyncio.sleep(0.02)  # the server's ends hear of it


def each(*answers: bytes) -> Answers:
    """One after the other."""
    left = list(answers)

    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0))

    return answer


@dialogue
async def test_a_round_is_one_line_and_its_answers_another(tmp_path: Path) -> None:
    async with parent(tmp_path, each(b"[[7,0],[8,0]]\n", b"[3,true,false]\n")) as (asked, limits):
        assert await limits.claim([*CALL, Call("other", [2])]) == [[7, 0], [8, 0]]
        assert await limits.present("holder") == Presence(3, is_known=True, has_company=False)
        await limits.leave("holder")
        here = {"holder": "holder", "well": True}
        assert [orjson.loads(line) for line in asked.lines] == [[["acme", "holder", 1], ["other", 2]], here]
        assert asked.connections == 1


@dialogue
async def test_rounds_wait_for_each_other(tmp_path: Path) -> None:
    """Many at once on the one line: each gets its own answer."""

    async def echo(line: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0)
        writer.write(orjson.dumps([[orjson.loads(line)[0][1]]]) + b"\n")

    async with parent(tmp_path, echo) as (asked, limits):
        answers = await asyncio.gather(*(limits.claim([Call("acme", [number])]) for number in range(50)))
        assert answers == [[[number]] for number in range(50)]
        assert asked.connections == 1


@dialogue
async def test_nobody_there_is_a_failure_of_the_store(tmp_path: Path) -> None:
    limits = HostedLimits(str(tmp_path / "books"))
    for _ in range(2):
        with pytest.raises(FAILURES):
            await limits.claim(CALL)
    await limits.close()


@pytest.mark.parametrize("rubbish", [b"", b"[[7", b"not json\n", b"[[7,0]\n", b"\xff\n"])
@dialogue
async def test_an_answer_that_can_not_be_read_is_a_failure_and_the_next_has_a_line_of_its_own(
    tmp_path: Path, rubbish: bytes
) -> None:
    said = [rubbish]

    async def once(_: bytes, writer: asyncio.StreamWriter) -> None:
        if said:
            writer.write(said.pop())
            writer.close()
        else:
            writer.write(b"[[7,0]]\n")

    async with parent(tmp_path, once) as (asked, limits):
        with pytest.raises(FAILURES):
            await limits.claim(CALL)
        assert await limits.claim(CALL) == [[7, 0]]
        assert asked.connections == 2


@dialogue
async def test_an_answer_without_end_is_a_failure(tmp_path: Path) -> None:
    async def endless(_: bytes, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(b"1" * (LONGEST_LINE + 1))
            await writer.drain()
            await asyncio.sleep(0.05)

    async with parent(tmp_path, endless) as (_, limits):
        with pytest.raises(FAILURES):
            await limits.claim(CALL)


@dialogue
async def test_a_late_answer_is_taken_for_nobodys(tmp_path: Path) -> None:
    """Who waits no longer closes the line, so that the answer to it can not meet the next question."""
    goes_on = asyncio.Event()
    late = [b"[[1,0]]\n"]

    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        if late:
            said = late.pop()
            await goes_on.wait()
            writer.write(said)
        else:
            writer.write(b"[[2,0]]\n")

    async with parent(tmp_path, answer) as (asked, limits):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await limits.claim(CALL)
        asking = asyncio.create_task(limits.claim(CALL))
        await asyncio.sleep(0)
        goes_on.set()
        assert await asking == [[2, 0]]
        assert asked.connections == 2


@dialogue
async def test_one_that_gives_up_waiting_for_its_turn_disturbs_nobody(tmp_path: Path) -> None:
    goes_on = asyncio.Event()

    async def answer(line: bytes, writer: asyncio.StreamWriter) -> None:
        await goes_on.wait()
        writer.write(line)

    async with parent(tmp_path, answer) as (asked, limits):
        first = asyncio.create_task(limits.claim([Call("first", [])]))
        second = asyncio.create_task(limits.claim([Call("second", [])]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second
        goes_on.set()
        assert await first == [["first"]]
        assert await limits.claim([Call("third", [])]) == [["third"]]
        assert (asked.connections, len(asked.lines)) == (1, 2)
