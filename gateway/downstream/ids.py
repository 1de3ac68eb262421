"""The ids of requests."""

from __future__ import annotations

import os
from typing import Final

from gateway.clock import wall_ns

_BYTES: Final = 8  # of chance, in each
_AT_ONCE: Final = 512


class _Ids:
    """Random bytes of the system, fetched for many ids at once, and the text of the latest millisecond. A process that
    forks must not have made any before."""

    __slots__ = ("_at", "_chance", "_milliseconds", "_prefix")

    def __init__(self) -> None:
        self._chance = b""
        self._at = 0
        self._milliseconds = -1
        self._prefix = ""

    def new(self, milliseconds: int) -> str:
        if milliseconds != self._milliseconds:
            self._milliseconds = milliseconds
            self._prefix = f"req_{milliseconds:012x}"
        at = self._at
        if at == len(self._chance):
            self._chance, at = os.urandom(_AT_ONCE * _BYTES), 0
        self._at = at + _BYTES
        return self._prefix + self._chance[at : at + _BYTES].hex()


_ids: Final = _Ids()


def new_request_id(milliseconds: int = 0) -> str:
    """A new id: 48 bits of Unix milliseconds (0: now), then 64 random ones, so that ids sort by time and rows of the
    ledger are appended.

    Always the gateway's own: bills hang on it, and a client could send the same one twice.
    """
    return _ids.new(milliseconds or wall_ns() // 1_000_000)
