"""Work on a disk that may never answer, as that of a mount that hangs, in a thread that nothing waits for for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Aside:
    """Does one thing at a time. Its thread holds up neither the loop nor the end of the process."""

    def __init__(self) -> None:
        self._is_busy = False

    async def do(self, job: Callable[[], T], seconds: float) -> T:
        """What the job returns or raises. Raises TimeoutError where it takes longer, or the one before still does."""
        if self._is_busy:
            raise TimeoutError
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(end: Callable[[Any], None], what: object) -> None:
            self._is_busy = False
            if not done.done():
                end(what)

        def run() -> None:
            try:
                ended = partial(settle, done.set_result, job())
            except Exception as error:
                ended = partial(settle, done.set_exception, error)
            with contextlib.suppress(RuntimeError):  # the loop may have been closed meanwhile
                loop.call_soon_threadsafe(ended)

        self._is_busy = True
        Thread(target=run, name="look at a disk", daemon=True).start()
        async with asyncio.timeout(seconds):
            return await done
