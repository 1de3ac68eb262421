"""Which adapter is to be on which worker, and what a worker that is full lets go. Times are seconds on any clock.

Each adapter has its homes among the workers that serve its model: the first k by rendezvous hashing, so that another
worker, or one less, moves few adapters, and gateways agree without talking. k grows with the requests that are under
way. A worker that is no home keeps what it has until the room is needed.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

REQUESTS_PER_REPLICA = 8.0  # of one adapter under way at once, for which one worker is enough
DEMAND_SECONDS = 10.0  # over which the requests under way are averaged
LEAST_DEMAND = 0.01  # below it an adapter is forgotten
SPILL = 2  # further workers that are asked where the homes of an adapter could not load it
FIRST_LOAD_SECONDS = 1.0  # what a load is taken to last until one was seen
BUSY_SECONDS = 2.0  # more, where every adapter in the way has requests under way
SMOOTHING = 0.3  # weight of the newest load
BACKOFF_SECONDS = 5.0  # after a first failure; doubled with each further one
LONGEST_BACKOFF_SECONDS = 300.0

Refusal = Literal[
    "adapter_missing",  # the worker has no room for adapters, or there is none of that name
    "adapter_failed",  # the worker could not load it a while ago
    "adapter_elsewhere",  # other workers are its homes
]


def replicas(now: int, demand: float, most: int) -> int:
    """How many workers an adapter is to be on, being on `now`, for `demand` requests under way on average. It shrinks
    later than it grows, so that a demand at the edge moves nothing."""
    enough = max(1, math.ceil(demand / REQUESTS_PER_REPLICA))
    if enough < now:
        enough = min(now, max(1, math.ceil(1.5 * demand / REQUESTS_PER_REPLICA)))
    return max(1, min(enough, most))


def weight(worker: str, adapter: str) -> int:
    """Of the pair, for rendezvous hashing: the same in every process."""
    return int.from_bytes(hashlib.blake2b(f"{worker}\0{adapter}".encode(), digest_size=8).digest(), "big")


class Failure:
    """Why an adapter is not on a worker; `is_current` until `until`, and remembered for longer, for the backoff.
    `is_said`: the worker has judged it, as others may."""

    __slots__ = ("is_current", "is_said", "name", "times", "until", "why")

    def __init__(self, name: str, why: str, until: float, times: int, is_said: bool) -> None:
        self.name = name  # the engine's, with the version that failed
        self.why = why
        self.until = until
        self.times = times
        self.is_said = is_said
        self.is_current = True


class Resident:
    """An adapter on a worker under the engine's `name` for it; `is_held` False while it is being loaded or unloaded,
    `held_since` when it was last found there."""

    __slots__ = ("adapter", "held_since", "is_held", "name", "used_at")

    def __init__(self, name: str, adapter: str, used_at: float, is_held: bool) -> None:
        self.name = name
        self.adapter = adapter
        self.used_at = used_at
        self.held_since = used_at
        self.is_held = is_held


class Shelf:
    """The room of one worker for adapters: what is there, who uses it, what could not be loaded.

    `wanted` has the engine's name, version included, of each adapter of the model, "" while its version is not known;
    it belongs to the caller and changes under the shelf. `fixed` adapters are those the worker was started with:
    they count, and are never unloaded. `edition` goes up with every change that a load or an unload makes.
    """

    __slots__ = ("edition", "failures", "fixed", "load_seconds", "placement", "residents", "room", "using", "wanted")

    def __init__(self, room: int, wanted: Mapping[str, str]) -> None:
        self.room = room
        self.wanted = wanted
        self.fixed: Mapping[str, str] = {}  # adapter -> the engine's name
        self.residents: dict[str, Resident] = {}  # by the engine's name
        self.using: dict[str, int] = {}  # requests under way, or waiting for the load; by the engine's name
        self.failures: dict[str, Failure] = {}  # by adapter
        self.load_seconds: float | None = None
        self.placement: Placement | None = None
        self.edition = 0

    # What requests ask

    def refuses(self, adapter: str) -> Refusal | None:
        """Why an adapter that is not there is not loaded for a request either."""
        if self.placement is None or adapter not in self.wanted or self.room <= len(self.fixed):
            return "adapter_missing"
        if self.failure(adapter) is not None:
            return "adapter_failed"
        return None if self in self.placement.homes(adapter) else "adapter_elsewhere"

    def failure(self, adapter: str) -> Failure | None:
        """The one that stands against loading it now."""
        if not self.failures:
            return None
        found = self.failures.get(adapter)
        if found is None or not found.is_current or self.wanted.get(adapter) != found.name:
            return None
        return found

    def seconds_to_load(self) -> float:
        """What an adapter that is not there yet is taken to cost."""
        seconds = FIRST_LOAD_SECONDS if self.load_seconds is None else self.load_seconds
        loading = sum([not one.is_held for one in self.residents.values()])
        if self.free <= 0 and self.victim() is None:
            return seconds * (1 + loading) + BUSY_SECONDS
        return seconds * (1 + loading)

    def enter(self, name: str) -> None:
        """A request uses the adapter or waits for it: it is not unloaded before `leave`."""
        self.using[name] = self.using.get(name, 0) + 1

    def leave(self, name: str, now: float) -> None:
        left = self.using.get(name, 0) - 1
        if left > 0:
            self.using[name] = left
        else:
            self.using.pop(name, None)
        resident = self.residents.get(name)
        if resident is not None:
            resident.used_at = now

    # What is there

    @property
    def free(self) -> int:
        return self.room - len(self.fixed) - len(self.residents)

    def names(self) -> dict[str, str]:
        """The adapters that requests can use: the version that is wanted, or what the worker was started with."""
        found = dict(self.fixed)
        wanted = self.wanted
        for resident in self.residents.values():
            if resident.is_held and wanted.get(resident.adapter) == resident.name:
                found[resident.adapter] = resident.name
        return found

    def victim(self) -> Resident | None:
        """What is to be unloaded first, None where all that is there is in use: what nobody wants any more, then what
        has not been used for longest."""
        idle = [one for one in self.residents.values() if one.is_held and one.name not in self.using]
        if not idle:
            return None
        return min(idle, key=lambda one: (self.is_wanted(one), one.used_at, one.name))

    def is_wanted(self, resident: Resident) -> bool:
        """While a version is not known, every one may be the one."""
        name = self.wanted.get(resident.adapter)
        return name is not None and name in ("", resident.name)

    # What becomes of it

    def begin(self, name: str, adapter: str, now: float) -> None:
        """It is being loaded, and takes its room from now on."""
        self.residents[name] = Resident(name, adapter, now, False)
        self.edition += 1

    def loaded(self, name: str, seconds: float, now: float) -> None:
        resident = self.residents.get(name)
        if resident is not None:  # otherwise the engine's list is to say whether it is there
            resident.is_held, resident.used_at, resident.held_since = True, now, now
            self.failures.pop(resident.adapter, None)
        old = self.load_seconds
        self.load_seconds = seconds if old is None else old + SMOOTHING * (seconds - old)
        self.edition += 1

    def failed(self, name: str, adapter: str, why: str, now: float, *, is_said: bool = True) -> Failure:
        """It could not be loaded, and is not tried again for a while."""
        self.residents.pop(name, None)
        before = self.failures.get(adapter)
        times = before.times + 1 if before is not None and before.name == name else 1
        seconds = min(LONGEST_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** min(times - 1, 20))
        failure = self.failures[adapter] = Failure(name, why, now + seconds, times, is_said)
        self.edition += 1
        return failure

    def gone(self, name: str) -> None:
        """It has been unloaded."""
        if self.residents.pop(name, None) is not None:
            self.edition += 1

    def lost(self, name: str, asked_at: float) -> None:
        """The engine did not know it when it was asked. What is on its way, or was loaded since, is another load's."""
        resident = self.residents.get(name)
        if resident is not None and resident.is_held and resident.held_since <= asked_at:
            self.gone(name)

    def recover(self, now: float) -> list[str]:
        """Ends what has been held against adapters for long enough; which those are."""
        ended: list[str] = []
        for adapter, failure in list(self.failures.items()):
            if failure.is_current and failure.until <= now:
                failure.is_current = False
                ended.append(adapter)
            if adapter not in self.wanted or failure.until + LONGEST_BACKOFF_SECONDS <= now:
                del self.failures[adapter]
        return ended

    def adopt(self, fixed: Mapping[str, str], placed: Mapping[str, str], now: float) -> None:
        """What the engine says it has: under names of its own start, and under those that gateways give (the engine's
        name -> adapter), this one earlier, or another one."""
        self.fixed = fixed
        for name in [name for name, one in self.residents.items() if one.is_held and name not in placed]:
            del self.residents[name]
        for name, adapter in placed.items():
            if name not in self.residents:
                self.residents[name] = Resident(name, adapter, now, True)


class Placement:
    """The homes of the adapters of what some workers serve alike. `members` are the shelves of those that may take
    requests, by the workers' names."""

    __slots__ = ("_demand", "_homes", "_replicas", "members")

    def __init__(self) -> None:
        self.members: Mapping[str, Shelf] = {}
        self._demand: dict[str, float] = {}
        self._replicas: dict[str, int] = {}
        self._homes: dict[str, list[Shelf]] = {}  # of those asked for since the last change

    def renew(self, members: Mapping[str, Shelf]) -> None:
        """Other workers take requests."""
        if members != self.members:
            self.members = members
            self._homes.clear()

    def homes(self, adapter: str) -> list[Shelf]:
        """Where it is to be; none where all that come into question could not load it."""
        found = self._homes.get(adapter)
        if found is None:
            members = self.members
            count = min(self.replicas(adapter), len(members))
            first = heapq.nlargest(count + SPILL, members, key=lambda worker: weight(worker, adapter))
            well = [members[worker] for worker in first if members[worker].failure(adapter) is None]
            found = self._homes[adapter] = well[:count]
        return found

    def replicas(self, adapter: str) -> int:
        return self._replicas.get(adapter, 1)

    def doubt(self, adapter: str) -> Failure | None:
        """The failure on one worker for which others make no room for the adapter yet. From its second one on
        they do: the files may be on their disks alone."""
        for shelf in self.members.values():
            failure = shelf.failure(adapter)
            if failure is not None and failure.is_said and failure.times == 1:
                return failure
        return None

    def forget(self, adapter: str) -> None:
        """Whether a worker can load it has changed."""
        self._homes.pop(adapter, None)

    def observe(self, under_way: Mapping[str, int], seconds: float) -> None:
        """So many requests were under way of each adapter, those of none left out, in the last so many seconds."""
        share = 1.0 - math.exp(-seconds / DEMAND_SECONDS)
        for adapter in self._demand.keys() | under_way.keys():
            before = self._demand.get(adapter, 0.0)
            demand = before + share * (under_way.get(adapter, 0) - before)
            count = self.replicas(adapter)
            if demand < LEAST_DEMAND and not under_way.get(adapter):
                self._demand.pop(adapter, None)
                demand = 0.0
            else:
                self._demand[adapter] = demand
            wanted = replicas(count, demand, max(1, len(self.members)))
            if wanted != count:
                self._homes.pop(adapter, None)
                if wanted == 1:
                    self._replicas.pop(adapter, None)
                else:
                    self._replicas[adapter] = wanted

    def in_demand(self) -> list[str]:
        """Adapters that are to be on more than one worker."""
        return list(self._replicas)


class Placed(NamedTuple):
    """The engine's name for an adapter of a model, taken apart."""

    adapter: str
    version: str


def engine_name(model: str, adapter: str, version: str) -> str:
    """What the gateway has an engine call an adapter: another version is another name, and so has its own entries in
    the engine's prefix cache."""
    return f"{model}:{adapter}@{version}"


def read_engine_name(name: str, model: str) -> Placed | None:
    """None for a name that is not of that form; no model, adapter or version has an @ or a colon in its name."""
    if not name.startswith(f"{model}:"):
        return None
    adapter, at, version = name[len(model) + 1 :].partition("@")
    return Placed(adapter, version) if adapter and at and version else None
