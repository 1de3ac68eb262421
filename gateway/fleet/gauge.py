"""One worker's counters and load, read again and again into the ledger."""

from __future__ import annotations

import asyncio
import logging
import time
from random import Random

from gateway.engines.load import NO_LOAD, UNKNOWN
from gateway.fleet.backend import Backend
from gateway.fleet.books import Books, reading_of
from gateway.fleet.probes import ProbeFailed, Prober

logger = logging.getLogger("tollgate.fleet")

JITTER = 0.1  # of the interval, either way: many gateways shall not read in step
READ_SECONDS = 1.0  # a reading may take
SHARP_SECONDS = 0.25  # and the counters on a page that took longer are of no certain moment, which an audit needs


class Gauge:
    """Reads until cancelled, one reading at a time, the first at once."""

    def __init__(self, backend: Backend, prober: Prober, every: float, books: Books, random: Random) -> None:
        self._backend = backend
        self._prober = prober
        self._every = every
        self._books = books
        self._random = random
        self._failed = False

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self._read()
            except Exception:  # whatever one worker answers, it must not end its readings
                logger.exception("reading failed in a new way", extra={"fields": {"worker": self._backend.worker.name}})
            pause = self._every * self._random.uniform(1 - JITTER, 1 + JITTER)
            await asyncio.sleep(max(pause - (time.monotonic() - began), pause / 2))

    async def _read(self) -> None:
        """What the worker does not tell is written down as unknown: that it was there or not is worth knowing too."""
        backend = self._backend
        began = time.monotonic()
        try:
            load = await self._prober.load(READ_SECONDS)
            if time.monotonic() - began > SHARP_SECONDS:
                load = load._replace(prompt_tokens=UNKNOWN, output_tokens=UNKNOWN)
            backend.load = load
            self._failed = False
        except ProbeFailed as error:
            backend.load = NO_LOAD
            if backend.up and not self._failed:  # a worker that is down says so elsewhere
                logger.warning("worker not read", extra={"fields": {"worker": backend.worker.name, "why": str(error)}})
                self._failed = True
        self._books.read(reading_of(backend, self._books.source, time.time(), time.monotonic()))
