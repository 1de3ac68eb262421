"""Who owns a journal: a file that its process holds locked for as long as it lives, however it ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

OWNER = "owner"
_CLAIMED = "owner.new"


def claim(directory: Path) -> int:
    """Takes a directory; it is given back when the descriptor is closed. The file is named once it is locked, so that
    whoever finds it without its lock knows that its process is dead."""
    fresh = directory / _CLAIMED
    file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(fresh, directory / OWNER)
    except BaseException:
        with suppress(OSError):
            os.unlink(fresh)
        os.close(file)
        raise
    return file


def is_dead(directory: Path) -> bool | None:
    """Whether the process that claimed it has ended; None where none has claimed it, or the directory is not there."""
    try:
        file = os.open(directory / OWNER, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True
