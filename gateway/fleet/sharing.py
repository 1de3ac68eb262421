"""Gateways that send to the same workers tell each other what they have there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from random import Random

from gateway.fleet.registry import Fleet
from gateway.routing.account import pending_tokens
from gateway.routing.elsewhere import NOTHING, Elsewhere, Share, said
from gateway.state.deltas import MOST_BYTES, Deltas
from gateway.state.redis import FAILURES
from gateway.telemetry import Reading

logger = logging.getLogger("tollgate.fleet")

TURN_SECONDS = (0.08, 0.12)  # between two turns, drawn anew each time: gateways do not march in step
REPEAT_SECONDS = 0.4  # after which even what has not changed is said again


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
        self._others = Elsewhere(own)
        self._said: dict[str, Share] = {}
        self._said_at = float("-inf")
        self._away = ""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(*TURN_SECONDS))
            await self.turn()

    async def turn(self) -> None:
        """Says what is new, hears what the others say, and puts it before the router."""
        message = self._message()
        try:
            found = await self._deltas.trade(message)
        except FAILURES as error:
            self._lose(f"{type(error).__name__}: {error}")
            found = []
        else:
            self._reach()
        self._hear(found)
        self._put()

    async def close(self) -> None:
        await self._deltas.close()

    def readings(self) -> Iterator[Reading]:
        """For the metrics."""
        yield Reading("tollgate_routing_gateways", "Gateways on the same workers, this one included.", self.known, {})

    @property
    def known(self) -> int:
        return 1 + len(self._others)

    def _message(self) -> bytes | None:
        """None while there is nothing to say."""
        now = self._clock()
        shares: dict[str, Share] = {}
        news = False
        for backend in self._fleet.backends():
            sent, backend.sent = backend.sent, []
            share = Share(backend.inflight, max(0, int(pending_tokens(backend, now))), sent or ())
            if share != NOTHING:
                shares[backend.worker.url] = share
                news = news or bool(sent)
        loads = {url: share._replace(sent=()) for url, share in shares.items()}
        if not news and loads == self._said and (now - self._said_at < REPEAT_SECONDS or not loads):
            return None
        self._said, self._said_at = loads, now
        message = said(self._own, shares)
        return message if len(message) <= MOST_BYTES else said(self._own, loads)

    def _hear(self, messages: list[bytes]) -> None:
        now = self._clock()
        by_url = {backend.worker.url: backend for backend in self._fleet.backends()}
        for message in messages:
            try:
                prompts = self._others.hear(message, now)
            except ValueError:  # another version's, while gateways are exchanged one by one
                logger.debug("a message of another gateway is not understood")
                continue
            for url, (root, chain) in prompts:
                backend = by_url.get(url)
                if backend is not None and backend.prefixes is not None:
                    backend.prefixes.insert(chain, root)

    def _put(self) -> None:
        totals = self._others.totals(self._clock())
        for backend in self._fleet.backends():
            there = totals.get(backend.worker.url, NOTHING)
            backend.elsewhere_inflight, backend.elsewhere_pending_tokens = there.inflight, there.pending_tokens

    def _lose(self, why: str) -> None:
        if not self._away:
            logger.warning("other gateways are not heard: each decides alone", extra={"fields": {"error": why}})
        self._away = why

    def _reach(self) -> None:
        if self._away:
            logger.info("other gateways are heard again")
        self._away = ""
