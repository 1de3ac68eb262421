"""Async tests on a fresh loop of either kind that leave nothing behind: no task, no complaint, no open socket."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest
import uvloop

SECONDS = 20.0  # more than any of them takes on a busy machine


def dialogue(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs an async test twice, on asyncio's own loop and on uvloop."""

    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    @wraps(test)
    def run(*args: Any, new_loop: Callable[[], asyncio.AbstractEventLoop], **kwargs: Any) -> None:
        complaints: list[dict[str, Any]] = []

        async def bounded() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with asyncio.timeout(SECONDS):
                await test(*args, **kwargs)
            if left := asyncio.all_tasks() - {asyncio.current_task()}:
                left = (await asyncio.wait(left, timeout=1.0))[1]  # those that end may take their turns
            assert not left

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(bounded())
        gc.collect()  # forgotten exceptions and open sockets complain now
        assert not complaints

    own = inspect.signature(test)
    new_loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), new_loop])  # type: ignore[attr-defined]
    return run
