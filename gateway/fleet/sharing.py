"""Gateways that send to the same workers tell each other what they have there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from random import Random

from gateway.fleet.backend import Backend
from gateway.fleet.registry import Fleet
from gateway.routing.elsewhere import Elsewhere, Message, News, said
from gateway.state.deltas import MOST_BYTES, Deltas
from gateway.state.redis import FAILURES
from gateway.telemetry import Reading

logger = logging.getLogger("tollgate.fleet")

TURN_SECONDS = (
    0.03  # between two turns while there is work: at 50 ms four gateways are 3 % slower than one, at 200, 11 %
)
IDLE_SECONDS = 0.1  # and while there is none
JITTER = 0.2  # of both, either way: gateways do not march in step
REPEAT_SECONDS = 0.4  # after which even what has not changed is said again, and that there is nothing


class Sharing:
    """`run` until the process ends. While the others can not be reached each decides alone, and says so once."""

    def __init__(
        self,
        fleet: Fleet,
        deltas: Deltas,
        own: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        """`own` is what this process is called; no two are alike."""
        self._fleet = fleet
        self._deltas = deltas
        self._own = own
        self._clock = clock
        self._random = random or Random()
        self._by_url: dict[str, Backend] = {}
        self._others = Elsewhere(own, self._by_url.get)
        self._elsewhere: dict[str, int] = {}
        self._news = News()
        self._number = 0  # of the last message
        self._said: dict[str, int] = {}
        self._said_at = float("-inf")
        self._away = ""

    async def run(self) -> None:
        while True:
            is_idle = not self._said and not self._elsewhere and not self._news
            pause = IDLE_SECONDS if is_idle else TURN_SECONDS
            await asyncio.sleep(pause * self._random.uniform(1 - JITTER, 1 + JITTER))
            await self.turn()

    async def turn(self) -> None:
        """Says what is new, hears what the others say, and puts it before the router."""
        self._meet()
        message = self._message()
        try:
            found = await self._deltas.trade(message)
        except FAILURES as error:
            self._lose(f"{type(error).__name__}: {error}")
            found = []
        else:
            self._reach()
        self._hear(found)

    async def close(self) -> None:
        await self._deltas.close()

    def readings(self) -> Iterator[Reading]:
        """For the metrics."""
        yield Reading("tollgate_routing_gateways", "Gateways on the same workers, this one included.", self.known, {})

    @property
    def known(self) -> int:
        return 1 + len(self._others)

    def _meet(self) -> None:
        """Workers come and go."""
        backends = self._fleet.backends()
        if len(backends) == len(self._by_url) and all(
            self._by_url.get(backend.worker.url) is backend for backend in backends
        ):
            return
        self._by_url.clear()
        for backend in backends:
            backend.news = self._news
            self._by_url[backend.worker.url] = backend

    def _message(self) -> bytes | None:
        """None while there is nothing to say. Who has nothing in flight says that it is there all the same: the others
        count whom they hear."""
        now = self._clock()
        inflight = {url: backend.inflight for url, backend in self._by_url.items() if backend.inflight}
        events = self._news.take(now)
        if not events and inflight == self._said and now - self._said_at < REPEAT_SECONDS:
            return None
        self._said, self._said_at = inflight, now
        self._number += 1
        message = said(Message(self._own, self._number, inflight, events))
        if len(message) > MOST_BYTES:
            self._number += 1  # so that the others see that they have missed something
            message = said(Message(self._own, self._number, inflight, []))
        return message

    def _hear(self, messages: list[bytes]) -> None:
        now = self._clock()
        for message in messages:
            try:
                self._others.hear(message, now)
            except ValueError:  # another version's, while gateways are exchanged one by one
                logger.debug("a message of another gateway is not understood")
        before, self._elsewhere = self._elsewhere, self._others.inflight(now)
        if before != self._elsewhere:
            for url, backend in self._by_url.items():
                backend.elsewhere_inflight = self._elsewhere.get(url, 0)

    def _lose(self, why: str) -> None:
        if not self._away:
            logger.warning("other gateways are not heard: each decides alone", extra={"fields": {"error": why}})
        self._away = why

    def _reach(self) -> None:
        if self._away:
            logger.info("other gateways are heard again")
        self._away = ""
