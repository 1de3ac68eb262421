"""What the signals have asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

SAME_WISH_SECONDS = 1.0  # a terminal and a parent, or a service manager and a parent, both pass on one wish


class Stop:
    """The handler of SIGTERM and SIGINT from the first moment on: asked once, the gateway drains; asked again, it does
    not wait any longer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self._clock = clock
        self._since = 0.0

    def __call__(self, *_: object) -> None:
        now = self._clock()
        if not self.asked.is_set():
            self._since = now
            self.asked.set()
        elif now - self._since >= SAME_WISH_SECONDS:
            self.hurried.set()
