"""A store that replicas share, in the test's own process and time, with every trouble of a network and a server."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from typing import Any

from gateway.state.limits import Call, Presence, presence, said_at
from gateway.tenancy.book import Books, Claim, Demand, Overtaken
from gateway.tenancy.limiter import Clock

TRAVEL_SECONDS = 0.001  # one way
LATE_SECONDS = 2.5  # for what arrives when nobody expects it any more
FOREVER = 1e9

FINE, AWAY, DEAF, LOST, LATE, TWICE, SLOW = "fine", "away", "deaf", "lost", "late", "twice", "slow"
WEATHER = (FINE, AWAY, DEAF, LOST, LATE, TWICE, SLOW)


class Store:
    """`weather` is what happens to messages: FINE, refused (AWAY), answered to nobody (DEAF), never arriving (LOST),
    arriving long after (LATE) or for a second time (TWICE), or taking almost as long as anyone waits (SLOW)."""

    def __init__(self, clock: Clock) -> None:
        self.books = Books()
        self.weather = FINE
        self._clock = clock
        self._present: dict[str, float] = {}

    def link(self) -> Link:
        return Link(self)

    def copy(self) -> Books:
        return copy.deepcopy(self.books)

    def answer(self, call: Call) -> list[int]:
        now = int(self._clock() * 1_000)
        holder, seq, ttl, _, names, claims, demands = call.written
        try:
            grants = self.books.claim(
                call.tenant,
                holder,
                seq,
                ttl,
                names,
                [Claim(*claim) for claim in claims],
                [Demand(*demand) for demand in demands],
                now,
            )
        except Overtaken:
            return [now, 1]
        return [now, 0, *(number for grant in grants for number in grant)]

    def present(self, holder: str, well: bool) -> Presence:
        now = self._clock()
        answer = presence(self._present, holder, now)
        self._present[holder] = said_at(now, well=well)
        return answer

    def forget(self) -> None:
        """It has begun anew."""
        self.books = Books()
        self._present.clear()

    def leave(self, holder: str) -> None:
        self._present.pop(holder, None)


class Link:
    """One process's connection to the store. `weather` is its own, when it is not the store's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.weather: str | None = None
        self.under_way = 0

    async def claim(self, calls: Sequence[Call]) -> list[list[int]]:
        self.under_way += 1
        try:
            weather = await self._arrive(lambda: [self._store.answer(call) for call in calls])
            answers = [self._store.answer(call) for call in calls]
            if weather == TWICE:
                asyncio.get_running_loop().call_later(
                    LATE_SECONDS, lambda: [self._store.answer(call) for call in calls]
                )
            await self._return(weather)
            return answers
        finally:
            self.under_way -= 1

    async def present(self, holder: str, *, well: bool = True) -> Presence:
        weather = await self._arrive(lambda: self._store.present(holder, well))
        answer = self._store.present(holder, well)
        await self._return(weather)
        return answer

    async def leave(self, holder: str) -> None:
        weather = await self._arrive(lambda: self._store.leave(holder))
        self._store.leave(holder)
        await self._return(weather)

    async def close(self) -> None:
        pass

    async def _arrive(self, late: Any) -> str:
        weather = self.weather or self._store.weather
        if weather == AWAY:
            raise ConnectionError("refused")
        if weather == LATE:
            asyncio.get_running_loop().call_later(LATE_SECONDS, late)
        if weather in (LOST, LATE):
            await asyncio.sleep(FOREVER)
        await asyncio.sleep(0.2 if weather == SLOW else TRAVEL_SECONDS)
        return weather

    async def _return(self, weather: str) -> None:
        await asyncio.sleep(FOREVER if weather == DEAF else 0.2 if weather == SLOW else TRAVEL_SECONDS)
