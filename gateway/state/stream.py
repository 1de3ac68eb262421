"""The stream in Redis between those who have batches for the ledger and those who write it. Bytes only.

`tollgate:{ledger}:1:batches` has an entry per batch, read by the consumer group `settlers`. What they have written they
say in `tollgate:{ledger}:1:acks:SOURCE`, a hash by the number of the batch, which its source empties. What nobody can
write goes to `tollgate:{ledger}:1:aside`. All of one slot, so that a cluster has them on one node.

Redis may forget any of it at any time; who waits for an acknowledgement asks `fates` and adds again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from gateway.state.redis import ResponseError, connect_blocking, without_password

GROUP = "settlers"
COMMAND_SECONDS = 3.0
BLOCK_MS = 500  # that a read waits for something to come, at most; well below COMMAND_SECONDS
ACKS_SECONDS = 24 * 3_600  # after which those of a source that asks no more are forgotten
MOST_ASIDE = 10_000
CONSUMER_IDLE_MS = 3_600_000  # after which a consumer without a pending entry is taken for gone

_PREFIX = "tollgate:{ledger}:1:"
BATCHES, ASIDE = f"{_PREFIX}batches", f"{_PREFIX}aside"
_DATA = b"batch"

Fate = Literal["waiting", "gone"]


class Entry(NamedTuple):
    id: bytes
    data: bytes


class Figures(NamedTuple):
    """`entries` in the stream, of which `pending` are with consumers; `oldest_ms` is when the first was added, Unix
    time, 0 for none; `aside` were set aside."""

    entries: int
    pending: int
    oldest_ms: int
    aside: int


class BatchStream:
    """Connects when first used. A failure of any method raises one of `state.redis.FAILURES`. For one thread."""

    def __init__(self, url: str, *, seconds: float = COMMAND_SECONDS) -> None:
        """`seconds` bounds a command; more than BLOCK_MS."""
        self.place = without_password(url)
        self._client = connect_blocking(url, name="tollgate-ledger", seconds=seconds, connections=2)

    def close(self) -> None:
        self._client.close()

    # Of a source

    def add(self, data: bytes) -> bytes:
        """Gives the entry's id."""
        return self._client.xadd(BATCHES, {_DATA: data})

    def acknowledged(self, source: str, seen: Sequence[int]) -> dict[int, bytes]:
        """What was said since of a source's batches, by number; those `seen` are forgotten."""
        key = _acks(source)
        with self._client.pipeline(transaction=False) as pipeline:
            if seen:
                pipeline.hdel(key, *seen)
            pipeline.hgetall(key)
            found: dict[bytes, bytes] = pipeline.execute()[-1]
        return {int(number): said for number, said in found.items() if number.isdigit()}

    def forget(self, source: str) -> None:
        """The source ends."""
        self._client.delete(_acks(source))

    def fates(self, ids: Sequence[bytes]) -> list[Fate]:
        """An entry is waiting that will still be read or is with a consumer."""
        read_up_to = self._read_up_to()
        with self._client.pipeline(transaction=False) as pipeline:
            for id_ in ids:
                pipeline.xrange(BATCHES, id_, id_, 1)
                pipeline.xpending_range(BATCHES, GROUP, id_, id_, 1)
            answers = pipeline.execute(raise_on_error=False)
        fates: list[Fate] = []
        for place, id_ in enumerate(ids):
            there, pending = answers[2 * place : 2 * place + 2]
            if isinstance(there, Exception):
                raise there
            if isinstance(pending, Exception) and not isinstance(pending, ResponseError):  # that there is no group yet
                raise pending
            is_with_one = not isinstance(pending, Exception) and bool(pending)
            waits = bool(there) and (is_with_one or read_up_to is None or _order(id_) > read_up_to)
            fates.append("waiting" if waits else "gone")
        return fates

    # Of a consumer

    def make_group(self) -> None:
        """Where there is none, from the first entry on: what was read before is found in the ledger."""
        try:
            self._client.xgroup_create(BATCHES, GROUP, "0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def read(self, consumer: str, count: int, *, block: bool) -> list[Entry]:
        """New entries, which then are this consumer's; makes the group where Redis has forgotten it."""
        try:
            found = self._client.xreadgroup(
                GROUP, consumer, {BATCHES: ">"}, count=count, block=BLOCK_MS if block else None
            )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self.make_group()
            return []
        return _entries(found[0][1]) if found else []

    def claim(self, consumer: str, idle_ms: int, count: int) -> list[Entry]:
        """Entries that others have had for so long that they must have died."""
        try:
            found = self._client.xautoclaim(BATCHES, GROUP, consumer, idle_ms, "0-0", count=count)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            return []
        return _entries(found[1])

    def acknowledge(self, said: Mapping[str, Mapping[int, bytes]], ids: Sequence[bytes]) -> None:
        """Tells sources about their batches, and that those entries are done with; removes what nobody needs.

        Redis that is full may not take the first and still does the second; then the source adds the batch again.
        """
        answers = self._acknowledge(said, ids)
        self.trim()
        if any(isinstance(answer, ResponseError) for answer in answers):  # there may be room now
            answers = self._acknowledge(said, ids)
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
                raise answer

    def _acknowledge(self, said: Mapping[str, Mapping[int, bytes]], ids: Sequence[bytes]) -> list[Any]:
        with self._client.pipeline(transaction=False) as pipeline:
            for source, numbers in said.items():
                pipeline.hset(_acks(source), mapping=numbers)
                pipeline.expire(_acks(source), ACKS_SECONDS)
            if ids:
                pipeline.xack(BATCHES, GROUP, *ids)
            return pipeline.execute(raise_on_error=False)

    def trim(self) -> None:
        """Removes what stands before the oldest entry that is not acknowledged."""
        read_up_to = self._read_up_to()
        if read_up_to is None:
            return
        pending: dict[str, Any] = self._client.xpending(BATCHES, GROUP)
        milliseconds, sequence = read_up_to
        oldest = pending["min"] if pending["pending"] else f"{milliseconds}-{sequence + 1}"
        self._client.xtrim(BATCHES, minid=oldest, approximate=False)

    def set_aside(self, data: bytes, why: str) -> bool:
        """Keeps what can not be written for somebody to look at; False when too much lies there already."""
        if int(self._client.xlen(ASIDE)) >= MOST_ASIDE:
            return False
        self._client.xadd(ASIDE, {_DATA: data, b"why": why})
        return True

    def dismiss_gone(self, but: str) -> None:
        """Consumers that have nothing and have not asked for long."""
        try:
            consumers: Iterable[dict[str, Any]] = self._client.xinfo_consumers(BATCHES, GROUP)
        except ResponseError:
            return
        for consumer in consumers:
            if not consumer["pending"] and consumer["idle"] > CONSUMER_IDLE_MS and consumer["name"] != but.encode():
                self._client.xgroup_delconsumer(BATCHES, GROUP, consumer["name"])

    def leave(self, consumer: str) -> None:
        """A consumer ends; what it still has is for others to claim."""
        try:
            if not self._client.xpending_range(BATCHES, GROUP, "-", "+", 1, consumername=consumer):
                self._client.xgroup_delconsumer(BATCHES, GROUP, consumer)
        except ResponseError:
            return

    def figures(self) -> Figures:
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.xlen(BATCHES)
            pipeline.xrange(BATCHES, "-", "+", 1)
            pipeline.xlen(ASIDE)
            pipeline.xpending(BATCHES, GROUP)
            entries, first, aside, pending = pipeline.execute(raise_on_error=False)
        for answer in (entries, first, aside):
            if isinstance(answer, Exception):
                raise answer
        held = 0 if isinstance(pending, Exception) else int(pending["pending"])
        return Figures(int(entries), held, _order(first[0][0])[0] if first else 0, int(aside))

    def _read_up_to(self) -> tuple[int, int] | None:
        """The last entry that the group has read; None where there is no group."""
        try:
            groups: Iterable[dict[str, Any]] = self._client.xinfo_groups(BATCHES)
        except ResponseError:
            return None
        return next((_order(group["last-delivered-id"]) for group in groups if group["name"] == GROUP.encode()), None)


def _acks(source: str) -> str:
    return f"{_PREFIX}acks:{source}"


def _entries(found: Iterable[tuple[bytes, dict[bytes, bytes] | None]]) -> list[Entry]:
    """Those that were removed while they were pending have no fields."""
    return [Entry(id_, fields.get(_DATA, b"")) for id_, fields in found if fields is not None]


def _order(id_: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = id_.decode().partition("-")
    return int(milliseconds), int(sequence or 0)
