"""The only writer of the configuration directory: one file replaced in one step, one writer at a time."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path


def rewrite(path: Path, edit: Callable[[str], str]) -> None:
    """Replaces the text of a file by `edit` of it. Readers see the old or the new, never a part.

    A link is followed, so it stays one; owner's permissions are kept. A file that is not there is made, from no text.
    OSError and UnicodeDecodeError pass through.
    """
    target = path.resolve()
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # two commands at once: each sees what the other wrote
        _clear(target)
        try:
            before, permissions = target.read_bytes(), target.stat().st_mode & 0o7777
        except FileNotFoundError:
            before, permissions = b"", 0o644
        content = edit(before.decode()).encode()
        # Hidden, so that no reader takes it for one of the files.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, permissions)
                os.fsync(descriptor)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
        os.fsync(directory)
    finally:
        os.close(directory)


def _clear(target: Path) -> None:
    """Away with what a killed command has left: nobody else writes now."""
    left = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}")  # as mkstemp names it
    for path in target.parent.iterdir():
        if left.fullmatch(path.name):
            path.unlink(missing_ok=True)
