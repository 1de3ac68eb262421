"""What a process admitted and settled, in a file that outlives it: each event is one write, so a kill loses none.

An admission is written when it is done, a settlement before it begins: what the file shows as under way was under way.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_RECORD = struct.Struct("<dBBIIQ")

ADMITTED, SETTLED, REFUSED, FAILED, LAG = range(5)


class Event(NamedTuple):
    at: float  # seconds of the machine's monotonic clock
    kind: int
    tenant: int
    lease: int  # numbered by its process; of REFUSED how many, of LAG microseconds
    tokens: int  # reserved, then used
    money: int


class Writer:
    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, event: Event) -> None:
        os.write(self._file, _RECORD.pack(*event))


def read(file: Path) -> Iterator[Event]:
    data = file.read_bytes() if file.exists() else b""
    for fields in _RECORD.iter_unpack(data[: len(data) // _RECORD.size * _RECORD.size]):
        yield Event(*fields)
