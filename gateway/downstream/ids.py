"""The ids of requests."""

from __future__ import annotations

import os
from typing import Final

from gateway.clock import wall_ns

_BYTES: Final = 8  # of chance, in each
_AT_ONCE: Final = 512


class _Chance:
    """Random bytes of the system, fetched for many ids at once. A process that forks must not have made any before."""

    __slots__ = ("_at", "_bytes")

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0

    def hexadecimal(self) -> str:
        at = self._at
        if at == len(self._bytes):
            self._bytes, at = os.urandom(_AT_ONCE * _BYTES), 0
        self._at = at + _BYTES
        return self._bytes[at : at + _BYTES].hex()


_chance: Final = _Chance()


def new_request_id(milliseconds: int = 0) -> str:
    """A new id: 48 bits of Unix milliseconds (0: now), then 64 random ones, so that ids sort by time and rows of the
    ledger are appended.

    Always the gateway's own: bills hang on it, and a client could send the same one twice.
    """
    return "req_%012x" % (milliseconds or wall_ns() // 1_000_000) + _chance.hexadecimal()
