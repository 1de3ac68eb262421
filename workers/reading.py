"""Files of others, opened without being held up by them: only regular files, and no more of them than is needed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

LARGEST_JSON = 64 << 20  # bytes; an index or a tokenizer of a large model has some


def opened(path: Path) -> BinaryIO:
    """To be read. Raises OSError, also for a pipe, a device or a directory: those may never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def content(path: Path, most: int = LARGEST_JSON) -> bytes:
    """All of a file. Raises OSError, also where it has more than `most` bytes."""
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB", str(path))
        return file.read(most + 1)
