"""One worker's load, polled several times a second; its counters, now and then, into the ledger.

A worker that is gone is noticed by the first poll that finds nobody there; one that is there and says nothing (paused,
hung, cut off) by its silence on this connection and on all those of requests. When that lasts, requests that have had
nothing from it are moved to other workers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from random import Random

from gateway.engines.dialect import TellsLoad
from gateway.engines.load import NO_LOAD, UNKNOWN, Load
from gateway.errors import GatewayError, WorkerUnreachable
from gateway.fleet.backend import Backend
from gateway.fleet.books import NO_BOOKS, Books, reading_of
from gateway.table import Timeout

logger = logging.getLogger("tollgate.fleet")

JITTER = 0.1  # of the interval, either way: many gateways shall not poll in step
POLL_SECONDS = 1.0  # a poll may take
SHARP_SECONDS = 0.25  # and the counters on a page that took longer are of no certain moment, which an audit needs
SILENT_SECONDS = 0.4  # without a byte while it owes an answer; with the longest interval that shows within a second
SILENT_TIMES = 2.0  # what its page takes as a rule: one that is always slow is not silent
LONGEST_SILENCE = 0.9 * POLL_SECONDS
# After that silence until requests are moved: longer than a busy engine's server is held up by one long prompt or a
# collection of garbage, for what the engine has done for them by then is lost; far shorter than clients' patience.
FAILOVER_SECONDS = 2.0
FAILOVER_AGAIN_SECONDS = 0.25  # to those that could not be moved then: there was no room, or no budget for a retry
SLOWER = 0.2  # weight of the latest answer in that rule
LOOP_SECONDS = 0.01  # for this process to read what has come, should itself have been the one that was held up
AGAIN_SECONDS = 0.05  # after a poll that failed as the first
NO_PAGE_SECONDS = 5.0  # between two looks whether an engine has its page by now
MAX_PAGE_BYTES = 4 * 1024 * 1024

_DEADLINES = Timeout(connect=POLL_SECONDS, first_token=POLL_SECONDS, idle=POLL_SECONDS, total=POLL_SECONDS)
_NO_PAGE = frozenset({404, 405, 501})


class PollFailed(Exception):
    """The message says what was wrong, without the worker's address."""


class Gauge:
    """Polls until cancelled, one poll at a time, the first at once: `every` so many seconds while the worker is up, and
    whenever a reading is due. `lost` is told when nobody is there. `read_every` is for the `books`."""

    def __init__(
        self,
        backend: Backend,
        dialect: TellsLoad,
        every: float,
        random: Random,
        lost: Callable[[str], None],
        *,
        books: Books = NO_BOOKS,
        read_every: float = 0.0,
    ) -> None:
        self.every = every
        self._backend = backend
        self._pool = backend.pool.beside()
        self._dialect = dialect
        self._random = random
        self._lost = lost
        self._books = books
        self._read_every = read_every
        self._read_due = 0.0
        self._failures = 0  # polls in a row
        self._told = False  # that it is not read
        self._usual = 0.0  # seconds its page takes
        self._has_page = True
        self._listening: asyncio.TimerHandle | None = None
        self._moving: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        try:
            await self._run()
        finally:
            self._stay()
            await self._pool.close()

    async def end(self) -> None:
        """After `run`: reads once more, POLL_SECONDS at most, and says that this is the last, so that nobody waits for
        more from this process. Not where an attempt is under way, whose end nobody will hear of."""
        if self._books is NO_BOOKS or self._backend.meter.in_flight:
            return
        self._pool = self._backend.pool.beside()
        try:
            began = time.monotonic()
            await self._poll(began)
            self._read(began, is_last=True)
        finally:
            self._stay()
            await self._pool.close()

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            is_due = self._books is not NO_BOOKS and began >= self._read_due
            try:
                if self._backend.up or is_due:
                    await self._poll(began)
                    if is_due:
                        self._read(began)
                else:
                    self._forget()
            except Exception:  # whatever one worker answers, it must not end its readings
                logger.exception("poll failed in a new way", extra={"fields": {"worker": self._backend.worker.name}})
            await asyncio.sleep(self._pause(began))

    def _pause(self, began: float) -> float:
        if self._failures == 1:
            return AGAIN_SECONDS
        every = self.every if self._has_page else max(self.every, NO_PAGE_SECONDS)
        if self._books is not NO_BOOKS:
            every = min(every, self._read_every)
        pause = every * self._random.uniform(1 - JITTER, 1 + JITTER)
        return max(pause - (time.monotonic() - began), pause / 10)

    async def _poll(self, began: float) -> None:
        """What the worker does not tell is unknown."""
        backend = self._backend
        was_up = backend.up
        self._listen_for(began, self._patience)
        try:
            load = await self._ask()
        except WorkerUnreachable as error:
            if time.monotonic() - began < POLL_SECONDS / 2:  # refused, and not merely late: nobody is there
                self._hear()
                self._lost(error.message)
            self._miss(error.message, tell=False)
        except PollFailed as error:  # an answer
            self._hear()
            self._miss(str(error), tell=was_up)
        except GatewayError as error:
            self._miss(error.message, tell=was_up)
        else:
            self._hear()
            took = time.monotonic() - began
            self._usual += SLOWER * (took - self._usual)
            if took > SHARP_SECONDS:
                load = load._replace(prompt_tokens=UNKNOWN, output_tokens=UNKNOWN)
            self._failures, self._told = 0, False
            backend.polled(load, began)
        finally:
            if self._listening is not None:
                self._listening.cancel()
                self._listening = None

    async def _ask(self) -> Load:
        response = await self._pool.get(self._dialect.load_path, _DEADLINES)
        try:
            page = await response.read(MAX_PAGE_BYTES)
        except BaseException:
            response.abort()
            raise
        self._has_page = response.status not in _NO_PAGE
        if response.status != 200:
            raise PollFailed(f"its page of metrics answered HTTP {response.status}")
        return self._dialect.load(page)

    def _miss(self, why: str, *, tell: bool) -> None:
        self._failures += 1
        if self._failures > 1:
            self._forget()
        if tell and not self._told:  # a worker that is down says so elsewhere
            logger.warning("worker not read", extra={"fields": {"worker": self._backend.worker.name, "why": why}})
            self._told = True

    def _forget(self) -> None:
        if self._backend.load is not NO_LOAD:
            self._backend.polled(NO_LOAD, self._backend.polled_at)

    def _read(self, began: float, *, is_last: bool = False) -> None:
        """That a worker was there or not is worth knowing too, and that it did not tell."""
        backend = self._backend
        if backend.polled_at != began:
            self._forget()
        self._books.read(reading_of(backend, self._books.source, time.time(), time.monotonic(), is_last=is_last))
        self._read_due = began + self._read_every * self._random.uniform(1 - JITTER, 1 + JITTER)

    # Silence

    @property
    def _patience(self) -> float:
        return min(LONGEST_SILENCE, max(SILENT_SECONDS, SILENT_TIMES * self._usual))

    def _listen_for(self, began: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._listening = loop.call_later(seconds, self._wait_for_own_loop, began)

    def _wait_for_own_loop(self, began: float) -> None:
        self._listening = asyncio.get_running_loop().call_later(LOOP_SECONDS, self._judge, began)

    def _judge(self, began: float) -> None:
        """The poll that began then is not answered yet. Whoever still sends tokens is busy, not silent."""
        silent_for = time.monotonic() - max(began, self._pool.heard_at)
        left = self._patience - silent_for
        self._set_silent(left <= 0)
        self._listen_for(began, left if left > 0 else SILENT_SECONDS / 4)

    def _hear(self) -> None:
        self._set_silent(False)

    def _set_silent(self, silent: bool) -> None:
        backend = self._backend
        if backend.silent == silent:
            return
        backend.silent = silent
        self._stay()
        if silent:
            self._forget()
            self._moving = asyncio.get_running_loop().call_later(FAILOVER_SECONDS, self._move)
        else:
            backend.let_in(time.monotonic())
        event = "worker silent" if silent else "worker heard again"
        logger.log(
            logging.WARNING if silent else logging.INFO, event, extra={"fields": {"worker": backend.worker.name}}
        )

    def _move(self) -> None:
        """It has been silent for long."""
        self._moving = None
        backend = self._backend
        if not backend.silent:  # it has been down and is up again
            return
        if moved := backend.pool.leave():
            logger.warning(
                "requests leave a silent worker", extra={"fields": {"worker": backend.worker.name, "requests": moved}}
            )
        self._moving = asyncio.get_running_loop().call_later(FAILOVER_AGAIN_SECONDS, self._move)

    def _stay(self) -> None:
        if self._moving is not None:
            self._moving.cancel()
            self._moving = None
