"""How far the settler is, for whoever asks: a small file beside the journals, replaced as a whole."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

NAME = "settler.json"


class Status(NamedTuple):
    """Times are Unix seconds; counts are since the settler's start."""

    at: float = 0.0
    pid: int = 0
    settled: int = 0  # attempts that are in the database
    duplicates: int = 0  # and those that were there already
    refused: int = 0  # that the database can not take; they are in the log
    crashed: int = 0  # whose gateway was killed: billed at their last checkpoint
    damaged: int = 0  # segments that were not read to their end
    waiting: int = 0  # attempts read and not yet in the database
    lag_seconds: float = 0.0  # age of the oldest of them
    settle_p50: float = 0.0  # seconds from an attempt's end to the database, of late
    settle_p99: float = 0.0
    last_error: str = ""
    set_aside: int = 0  # batches of the stream that could not be written; those of all machines come through it
    claimed: int = 0  # batches of the stream that were taken over from a settler that died
    streamed: int = 0  # batches that wait in the stream
    journals: dict[str, int] = {}  # settlements of each that are in the database  # noqa: RUF012
    shared_out_through: float = 0.0  # the bill is complete up to there
    drift: dict[str, float] = {}  # by worker, of the last audit  # noqa: RUF012


def write_status(root: Path, status: Status) -> None:
    """For the eyes of its user only, as the journals are: what a database says of its trouble may be in it."""
    with suppress(OSError):  # a full disk: the settler has said worse by then
        fresh = root / f".{NAME}"  # one settler at a time: what a killed one leaves is written over
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(file, "w") as writer:
            os.fchmod(file, 0o600)
            writer.write(json.dumps(status._asdict()))
        fresh.rename(root / NAME)


def read_status(root: Path) -> Status:
    """The last one written; an empty one when there is none."""
    try:
        written: dict[str, Any] = json.loads((root / NAME).read_text())
        return Status(**{name: value for name, value in written.items() if name in Status._fields})
    except (OSError, ValueError, TypeError, AttributeError):
        return Status()
