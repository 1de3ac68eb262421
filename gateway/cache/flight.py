"""One upstream call for many identical requests under way.

The first caller leads and goes upstream; those who join while it does wait for its entry. When the leader leaves
without one (it failed, its client went away), the longest waiting follower leads next. A follower's states:

| from    | on                                            | to      | `wait` gives |
|---------|-----------------------------------------------|---------|--------------|
| waiting | the leader lands an entry                     | served  | the entry    |
| waiting | the leader leaves and it is next              | leading | None: go     |
| waiting | the leader lands None, or its patience is out | alone   | None: go     |
| any     | `leave`                                       | gone    | -            |
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.cache.entry import Entry

PATIENCE_SECONDS: Final = 30.0
MAX_FOLLOWERS: Final = 1_024


class _Group:
    """Everybody who asks the same thing now. `waiting` is a dict for its order and O(1) removal."""

    __slots__ = ("key", "leader", "waiting")

    def __init__(self, key: bytes, leader: Flight) -> None:
        self.key = key
        self.leader = leader
        self.waiting: dict[Flight, None] = {}


class Flights:
    """The flights of one event loop. A follower waits at most `patience` seconds; beyond `max_followers` of one key,
    callers go alone at once."""

    def __init__(self, *, patience: float = PATIENCE_SECONDS, max_followers: int = MAX_FOLLOWERS) -> None:
        self.patience = patience
        self.max_followers = max_followers
        self._groups: dict[bytes, _Group] = {}

    def __len__(self) -> int:
        """How many different requests are under way."""
        return len(self._groups)

    def join(self, key: bytes) -> Flight:
        """A place for one caller, who must `leave` it at the end whatever happened."""
        flight = Flight(self._groups, self.patience)
        group = self._groups.get(key)
        if group is None:
            self._groups[key] = flight.group = _Group(key, flight)
        elif len(group.waiting) < self.max_followers:
            flight.group = group
            flight.future = asyncio.get_running_loop().create_future()
            group.waiting[flight] = None
        return flight


class Flight:
    """One caller's part."""

    __slots__ = ("_groups", "_patience", "future", "group")

    def __init__(self, groups: dict[bytes, _Group], patience: float) -> None:
        self._groups = groups
        self._patience = patience
        self.group: _Group | None = None  # None: alone, or over
        self.future: asyncio.Future[Entry | None] | None = None  # a follower's; None for who goes upstream at once

    @property
    def leads(self) -> bool:
        return self.group is not None and self.group.leader is self

    async def wait(self) -> Entry | None:
        """The entry of an identical request, or None: the caller goes upstream itself."""
        if self.future is None:
            return None
        timer = self.future.get_loop().call_later(self._patience, self._lose_patience)
        try:
            return await self.future
        except asyncio.CancelledError:
            self.leave()  # it may just have been chosen to lead: the next one must not wait for nothing
            raise
        finally:
            timer.cancel()

    def land(self, entry: Entry | None) -> None:
        """The leader's answer. None: there is one and it cannot be shared, so everybody goes alone at once."""
        if not self.leads or self.group is None:
            return
        group, self.group = self.group, None
        del self._groups[group.key]
        for follower in group.waiting:
            follower.group = None
            _resolve(follower, entry)

    def leave(self) -> None:
        """The end of this caller's part. Harmless when it is over already."""
        group, self.group = self.group, None
        if group is None:
            return
        if group.leader is not self:
            group.waiting.pop(self, None)
            return
        following = next(iter(group.waiting), None)
        if following is None:
            del self._groups[group.key]
            return
        del group.waiting[following]
        group.leader = following
        _resolve(following, None)

    def _lose_patience(self) -> None:
        if self.future is not None and not self.future.done():
            self.leave()
            self.future.set_result(None)


def _resolve(flight: Flight, entry: Entry | None) -> None:
    if flight.future is not None and not flight.future.done():
        flight.future.set_result(entry)
