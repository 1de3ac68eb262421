"""Work that may never end, and who waits for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.fleet.aside import Aside

SECONDS = 20.0


def test_what_a_job_returns_or_raises_comes_back() -> None:
    async def story() -> None:
        aside = Aside()
        assert await aside.do(lambda: 5, SECONDS) == 5
        with pytest.raises(ZeroDivisionError):
            await aside.do(lambda: 1 // 0, SECONDS)
        assert await aside.do(lambda: 6, SECONDS) == 6, "one after the other without a pause"

    asyncio.run(story())


def test_one_that_hangs_is_waited_for_only_so_long_and_has_no_second_beside_it() -> None:
    async def story() -> None:
        aside, hanging, begun = Aside(), threading.Event(), 0

        def job() -> str:
            nonlocal begun
            begun += 1
            assert threading.current_thread().daemon, "the end of the process does not wait for it"
            hanging.wait(SECONDS)
            return "late"

        for _ in range(3):
            with pytest.raises(TimeoutError):
                await aside.do(job, 0.01)
        assert begun == 1
        hanging.set()
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    assert await aside.do(lambda: "again", SECONDS) == "again"
                except TimeoutError:  # its end has not come through yet
                    await asyncio.sleep(0)
                else:
                    break

    asyncio.run(story())


def test_one_that_ends_after_its_loop_does_no_harm() -> None:
    aside, hanging = Aside(), threading.Event()

    async def story() -> None:
        with pytest.raises(TimeoutError):
            await aside.do(lambda: hanging.wait(SECONDS), 0.01)

    before = set(threading.enumerate())
    asyncio.run(story())
    (thread,) = set(threading.enumerate()) - before
    hanging.set()
    thread.join(SECONDS)
    assert not thread.is_alive()
