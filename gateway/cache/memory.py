"""A store in this process: least recently used out first, bounded in bytes, every operation O(1)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from gateway.cache.entry import Entry

OVERHEAD_BYTES = 576  # of Python objects around the bytes of an entry, measured on 64-bit CPython 3.11


class _Kept(NamedTuple):
    entry: Entry
    size: int
    expires: float


class MemoryStore:
    """`clock` gives monotonic seconds. Expired entries leave when they are asked for or when room is needed."""

    def __init__(self, max_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: bytes) -> Entry | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.expires <= self._clock():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept.entry

    def put(self, key: bytes, entry: Entry, ttl: float) -> None:
        self._drop(key)
        size = OVERHEAD_BYTES + len(key) + len(entry.body) + len(entry.content_type)
        if ttl <= 0 or size > self._max_bytes:
            return
        self._kept[key] = _Kept(entry, size, self._clock() + ttl)
        self.size_bytes += size
        self._shrink()

    def resize(self, max_bytes: int) -> None:
        """Takes effect at once; what no longer fits goes."""
        self._max_bytes = max_bytes
        self._shrink()

    async def close(self) -> None:
        self._kept.clear()
        self.size_bytes = 0

    def _shrink(self) -> None:
        while self.size_bytes > self._max_bytes:
            _, kept = self._kept.popitem(last=False)
            self.size_bytes -= kept.size

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size_bytes -= kept.size
