"""What a parent leaves a child, and the line between the two."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from gateway.child import LEAVING, SERVING, STAND_BACK, STAND_IN, Inheritance, Line, inherited, listeners_of, obey
from gateway.listening import listen_for_many
from tests.unit.gateway.dialogue import dialogue


@pytest.fixture
def ends() -> Iterator[tuple[Line, Line]]:
    parent, child = (Line(end) for end in socket.socketpair())
    yield parent, child
    parent.close()
    child.close()


def test_nothing_is_left_to_a_process_without_a_parent() -> None:
    assert inherited({}) is None


def test_what_is_left_is_found_again_and_not_passed_on() -> None:
    listeners = listen_for_many("127.0.0.1", 0, 2)
    ours, theirs = socket.socketpair()
    os.set_inheritable(theirs.fileno(), True)
    left = Inheritance(4711, 1, theirs.fileno(), [one.fileno() for one in listeners])
    found = inherited(left.environ())
    assert found == left
    assert not os.get_inheritable(theirs.fileno())
    copies = listeners_of(found._replace(listeners=[os.dup(one) for one in found.listeners]))
    assert [one.getsockname() for one in copies] == [one.getsockname() for one in listeners]
    for one in (*copies, *listeners, ours, theirs):
        one.close()


def test_messages_arrive_in_order_and_whole(ends: tuple[Line, Line]) -> None:
    parent, child = ends
    assert child.heard() == []
    child.say(SERVING)
    child.say(LEAVING, 255)
    assert parent.heard() == [(SERVING, 0), (LEAVING, 255)]
    assert parent.heard() == []


def test_half_a_message_waits_for_its_other_half() -> None:
    ours, theirs = socket.socketpair()
    line = Line(ours)
    with theirs:
        theirs.send(STAND_IN + b"\x01" + STAND_BACK)
        assert line.heard() == [(STAND_IN, 1)]
        theirs.send(b"\x02")
        assert line.heard() == [(STAND_BACK, 2)]
    line.close()


def test_who_has_gone_or_does_not_read_can_be_spoken_to(ends: tuple[Line, Line]) -> None:
    parent, child = ends
    for _ in range(100_000):
        parent.say(STAND_IN, 1)
    child.close()
    parent.say(STAND_IN, 1)


@dialogue
async def test_a_child_does_what_its_parent_says(ends: tuple[Line, Line]) -> None:
    done: list[tuple[str, int]] = []

    class Server:
        async def accept(self, slot: int) -> None:
            done.append(("accept", slot))

        def release(self, slot: int) -> None:
            done.append(("release", slot))

    parent, child = ends
    obey(child, Server())
    parent.say(STAND_IN, 1)
    while len(done) < 1:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    parent.say(STAND_BACK, 1)
    while len(done) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert done == [("accept", 1), ("release", 1)]
    parent.close()
    while asyncio.get_running_loop().remove_reader(child.fileno()):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
