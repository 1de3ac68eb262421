"""When requests arrived, which is earlier than when the event loop came to read them.

What the loop finds in one turn has been there since it woke. If it never rested since the turn before, it came at some
time during the work of that one: then the middle is the best guess.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary


class Arrivals:
    """One per event loop, for all of its connections."""

    __slots__ = ("_arrived", "_before", "_call_soon", "_clock", "_woke")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], clock: Callable[[], float]) -> None:
        self._call_soon = call_soon
        self._clock = clock
        self._woke = 0.0
        self._before: float | None = None  # when it woke for the turn before, if it has not rested since
        self._arrived: float | None = None

    def now(self) -> float:
        """When the bytes that are being read arrived, on the clock."""
        arrived = self._arrived
        if arrived is None:
            self._woke = woke = self._clock()
            self._arrived = arrived = woke if self._before is None else (self._before + woke) / 2
            self._call_soon(self._end_turn)
        return arrived

    def _end_turn(self) -> None:
        """All has been read; the work on it comes next, and then another look that does not wait."""
        self._arrived, self._before = None, self._woke
        self._call_soon(self._rest)

    def _rest(self) -> None:
        """After that look (on uvloop; asyncio's own loop comes here just before it). If it brought nothing, the next
        one waits."""
        if self._arrived is None:
            self._before = None


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Arrivals] = WeakKeyDictionary()


def arrivals_of(loop: asyncio.AbstractEventLoop) -> Arrivals:
    """What all connections of a loop share, on the monotonic clock."""
    arrivals = _of_loops.get(loop)
    if arrivals is None:
        arrivals = _of_loops[loop] = Arrivals(loop.call_soon, time.monotonic)
    return arrivals
