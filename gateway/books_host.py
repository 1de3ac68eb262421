"""The books of a gateway of several processes without a Redis: its parent keeps them for its children.

A thread with an event loop of its own, for the parent itself does little but wait. The books outlive every child, and
no child's end says that it used less than it held: it is charged as in `tenancy/book.py`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from pathlib import Path
from typing import Any, Self, cast

import orjson

from gateway.state.hosted import LONGEST_LINE
from gateway.state.limits import presence, said_at
from gateway.tenancy.book import Books, Claim, Demand, Overtaken

logger = logging.getLogger("tollgate.limits")

START_SECONDS = 5.0


class BooksUnavailable(Exception):
    """The message says what to do."""


class BooksHost:
    """`with BooksHost(path):` answers there until the block ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._books = Books()
        self._present: dict[str, float] = {}  # when each child said last that it is there
        self._why = "it took too long"
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="books", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._is_listening.wait(0.05) and self._thread.is_alive() and time.monotonic() < deadline:
            pass
        if not self._is_listening.is_set():
            raise BooksUnavailable(
                f"cannot listen on {self._path} for the limits of several processes ({self._why}): let TMPDIR name a "
                "directory with a short path that can be written to"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            server = await asyncio.start_unix_server(self._converse, self._path, limit=LONGEST_LINE)
        except OSError as error:
            self._why = str(error)
            return
        self._is_listening.set()
        try:
            await self._stop.wait()
        finally:
            server.close()  # without a wait for the children's ends of the connections, which may be stuck

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        holder = ""
        try:
            while line := await reader.readline():
                question = orjson.loads(line)
                if isinstance(question, dict):
                    said, now = cast("dict[str, Any]", question), time.time()
                    holder = str(said["holder"])
                    answer: list[Any] = list(presence(self._present, holder, now))
                    self._present[holder] = said_at(now, well=said["well"] is True)
                else:
                    answer = [self._claim(*one) for one in question]
                writer.write(orjson.dumps(answer) + b"\n")
                await writer.drain()
        except asyncio.CancelledError:  # the end of the host, which Python 3.11 would report as a fault
            pass
        except (OSError, ValueError, TypeError, KeyError) as error:  # it died in mid-word, or speaks otherwise
            logger.warning("limits: a process's line was closed", extra={"fields": {"error": repr(error)}})
        finally:
            self._present.pop(holder, None)
            writer.close()

    def _claim(
        self,
        tenant: str,
        holder: str,
        seq: int,
        ttl: int,
        _: int,
        names: list[str],
        claims: list[list[int]],
        demands: list[Any],
    ) -> list[int]:
        now = int(time.time() * 1_000)
        try:
            grants = self._books.claim(
                tenant,
                holder,
                seq,
                ttl,
                names,
                [Claim(*claim) for claim in claims],
                [Demand(requests, tokens, places, money, tuple(of)) for requests, tokens, places, money, of in demands],
                now,
            )
        except Overtaken:
            return [now, 1]
        return [now, 0, *(number for grant in grants for number in grant)]
