"""Where the settler's log goes: JSON lines, as the gateway's."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gateway.loghandler import JsonHandler
from gateway.logs import LogWriter


@contextmanager
def logging_json() -> Generator[None]:
    """On standard output, in turn with the processes of a gateway that it is shared with."""
    shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    turn = Path(shared, "log.turn") if shared else None
    writer = LogWriter(turn=turn if turn is not None and turn.exists() else None)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [JsonHandler(writer)]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        writer.close()
