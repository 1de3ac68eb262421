"""A process of a gateway that runs several: what its parent left it, and the line between the two.

Messages are two bytes, a verb and a slot. The parent says which listeners to accept on for another process and which no
longer; the child says when it serves and when it begins to leave. Both ends read what the other writes without waiting.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

CHILD = "TOLLGATE_CHILD"  # set for a child: an Inheritance as JSON
PR_SET_PDEATHSIG = 1  # linux/prctl.h

STAND_IN, STAND_BACK = b"+", b"-"  # the parent's verbs
SERVING, LEAVING = b"s", b"l"  # the child's; their slot says nothing


class Inheritance(NamedTuple):
    """Descriptors are the same numbers in both processes."""

    parent: int  # its pid
    slot: int  # the listener that is this child's own
    line: int
    listeners: Sequence[int]

    def environ(self) -> dict[str, str]:
        return {CHILD: json.dumps(self)}


def inherited(environ: Mapping[str, str] = os.environ) -> Inheritance | None:
    """What a parent left, None for a process that has none. No child of this process will have it too."""
    written = environ.get(CHILD)
    if written is None:
        return None
    left = Inheritance(*json.loads(written))
    for descriptor in (left.line, *left.listeners):
        os.set_inheritable(descriptor, False)
    return left


def listeners_of(left: Inheritance) -> list[socket.socket]:
    listeners = [socket.socket(fileno=descriptor) for descriptor in left.listeners]
    for listener in listeners:
        listener.setblocking(False)
    return listeners


class Line:
    """Either end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._rest = b""
        end.setblocking(False)

    def fileno(self) -> int:
        return self._end.fileno()

    def say(self, verb: bytes, slot: int = 0) -> None:
        """Never waits. Who does not read thousands of messages is past being told anything, as is who has gone."""
        try:
            self._end.send(verb + bytes((slot,)))
        except OSError:
            pass

    def heard(self) -> list[tuple[bytes, int]]:
        """What has come since the last call."""
        try:
            self._rest += self._end.recv(4096)
        except OSError:
            return []
        whole = len(self._rest) & ~1
        said, self._rest = self._rest[:whole], self._rest[whole:]
        return [(said[at : at + 1], said[at + 1]) for at in range(0, whole, 2)]

    def close(self) -> None:
        self._end.close()


class Accepts(Protocol):
    """A server with more listeners than it accepts on."""

    async def accept(self, slot: int) -> None: ...

    def release(self, slot: int) -> None: ...


def obey(line: Line, server: Accepts) -> None:
    """In a child: does from now on what the parent says."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def heard() -> None:
        said = line.heard()
        if not said:  # the parent is gone, and SIGTERM comes
            loop.remove_reader(line.fileno())
        for verb, slot in said:
            if verb == STAND_IN:
                tasks.add(task := loop.create_task(server.accept(slot)))
                task.add_done_callback(tasks.discard)
            elif verb == STAND_BACK:
                server.release(slot)

    loop.add_reader(line.fileno(), heard)


def end_with_parent(parent: int) -> None:
    """SIGTERM to this process once the parent is gone, even when that was killed. Only Linux can do this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was gone before the kernel was asked
            signal.raise_signal(signal.SIGTERM)
